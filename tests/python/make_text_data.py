"""Makes the five text tasks of `benchmarks/text.toml`: 1,200 texts to train on, 200 to choose settings on and 200 to
report on per task, balanced over the classes.

Sources: the human-rated sentences in PyPI's vaderSentiment (MIT; fetched by pip, its checksum is known), and the one-line
descriptions of software in Debian's package index (of the machine: `apt-cache dumpavail`). The files in benchmarks/data are
the output of this script on Debian 12; the index changes with time, and so would the two tasks made of it.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path

from packages import sha256_of

VADER = ("vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9")
SIZES = {"train": 1200, "validation": 200, "test": 200}
SEED = 2602
OUT = Path(__file__).resolve().parents[2] / "benchmarks" / "data"

SECTIONS = {
    "games": "games", "sound": "sound", "graphics": "graphics", "fonts": "fonts", "web": "web", "mail": "mail",
    "math": "math", "editors": "editors", "database": "database", "science": "science", "net": "network",
    "video": "video",
}  # fmt: skip
LANGUAGES = ["python", "perl", "haskell", "ruby", "javascript", "java", "golang", "rust", "php", "ocaml"]
# Names that would give a library's language away.
GIVEAWAY = re.compile(
    r"\b(python ?\d?|perl ?\d?|haskell|ghc|ruby|javascript|node(\.?js)?|js|java|golang|go|rust|crates?|cargo|php ?\d?|ocaml|"
    r"gems?|cpan|jvm|npm|pypi|pear|pecl|cabal|django|rails|jquery|bindings? for|py|pm)\b",
    re.IGNORECASE,
)
DROPPED = re.compile(r"transitional|dummy|debug symbols|metapackage|documentation|common files|data files", re.IGNORECASE)


def vader_file(name: str) -> list[tuple[float, str]]:
    """Score and text of each rated sentence of a domain."""
    package, version, sha256 = VADER
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--no-binary=:all:", "--quiet", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", f"{package}=={version}", *options, "--dest", folder]
        subprocess.run(command, check=True)
        (sdist,) = Path(folder).glob("*.tar.gz")
        if sha256_of(sdist) != sha256:
            raise ValueError(f"{sdist.name}: sha256 is {sha256_of(sdist)}, expected {sha256}")
        with tarfile.open(sdist) as outer:
            inner = outer.extractfile(f"{package}-{version}/additional_resources/hutto_ICWSM_2014.tar.gz").read()
    with tarfile.open(fileobj=BytesIO(inner)) as archive:
        text = archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("latin-1")
    rows = (line.split("\t", 2) for line in text.splitlines() if line.count("\t") >= 2)
    return [(float(score), clean(sentence)) for _, score, sentence in rows]


def clean(text: str) -> str:
    for entity, character in [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"')]:
        text = text.replace(entity, character)
    return " ".join(text.split())


def sentiment(name: str, negative: float, positive: float, neutral: float | None = None) -> dict[str, list[str]]:
    classes = defaultdict(list)
    for score, text in vader_file(name):
        if score <= negative:
            classes["negative"].append(text)
        elif score >= positive:
            classes["positive"].append(text)
        elif neutral is not None and abs(score) <= neutral:
            classes["neutral"].append(text)
    return classes


def debian() -> list[dict[str, str]]:
    """One package per source: name, section and description."""
    dump = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    packages = {}
    for block in dump.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if "Description" not in fields or DROPPED.search(fields["Description"]):
            continue
        source = fields.get("Source", fields["Package"]).split(" ")[0]
        packages.setdefault(source, fields)
    return [packages[source] for source in sorted(packages)]


def sections(packages: list[dict[str, str]]) -> dict[str, list[str]]:
    classes = defaultdict(list)
    for fields in packages:
        label = SECTIONS.get(fields.get("Section", "").split("/")[-1])
        if label:
            classes[label].append(clean(fields["Description"]))
    return classes


def languages(packages: list[dict[str, str]]) -> dict[str, list[str]]:
    classes = defaultdict(list)
    for fields in packages:
        language = fields.get("Section", "").split("/")[-1]
        text = clean(GIVEAWAY.sub(" ", fields["Description"])).strip(" -–:,()")
        if language in LANGUAGES and len(text.split()) >= 3:
            classes[language].append(text)
    return classes


def draw(classes: dict[str, list[str]], name: str) -> dict[str, list[dict[str, str]]]:
    """Balanced splits without a text in two of them; a small class is used up, and larger ones make up for it."""
    rng = random.Random(f"{SEED}/{name}")
    pools = {}
    seen = set()
    for label in sorted(classes):
        texts = sorted({text for text in classes[label] if text.lower() not in seen and 8 <= len(text) <= 400})
        seen.update(text.lower() for text in texts)
        rng.shuffle(texts)
        pools[label] = texts
    splits = {}
    total = sum(SIZES.values())
    for split, size in SIZES.items():
        rows = []
        shares = {label: len(pool) for label, pool in pools.items()}
        wanted = fair({label: int(count * size / total) if total > size else count for label, count in shares.items()}, size)
        for label, count in wanted.items():
            rows += [{"text": pools[label].pop(), "label": label} for _ in range(count)]
        total -= size
        rng.shuffle(rows)
        splits[split] = rows
    return splits


def fair(available: dict[str, int], wanted: int) -> dict[str, int]:
    """As equal counts as there are, `wanted` in all."""
    counts = dict.fromkeys(available, 0)
    while sum(counts.values()) < wanted:
        open_classes = [label for label in counts if counts[label] < available[label]]
        if not open_classes:
            raise ValueError(f"only {sum(available.values())} texts for {wanted}")
        label = min(open_classes, key=lambda label: counts[label])
        counts[label] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    packages = debian()
    tasks = {
        "movie": sentiment("movieReviewSnippets", -1.0, 1.0),
        "section": sections(packages),
        "product": sentiment("amazonReviewSnippets", -0.8, 0.8),
        "language": languages(packages),
        "tweets": sentiment("tweets", -0.8, 1.2, 0.5),
    }
    for name, classes in tasks.items():
        print(name, {label: len(texts) for label, texts in sorted(classes.items())})
        for split, rows in draw(classes, name).items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file = out / f"{name}-{split}.jsonl"
            file.write_text("".join(lines), encoding="utf-8")
            print(f"  {sha256_of(file)}  {file.name}")


if __name__ == "__main__":
    main()
