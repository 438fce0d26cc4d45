"""Writes native/assets/mix: small balanced parts of MNIST and Fashion-MNIST, as gzip'd idx."""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

import idx
import packages
from image_data import CLASSES, LabelledImages, load_fashion, load_mnist

SEED = 20_260
TRAINING_PER_CLASS = 300
VALIDATION_PER_CLASS = 50
TEST_PER_CLASS = 100
FASHION_HELD_OUT_PER_CLASS = 1_000
DEFAULT_OUTPUT = Path(__file__).resolve().parents[2] / "native" / "assets" / "mix"


def rows_by_class(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The row numbers of every class, each in a random order."""
    return [rng.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]


def shuffled(parts: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.concatenate(parts))


def draw_train_pool(rows: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """3,000 training rows, then 500 validation rows; each part balanced and shuffled."""
    end = TRAINING_PER_CLASS + VALIDATION_PER_CLASS
    training = shuffled([row[:TRAINING_PER_CLASS] for row in rows], rng)
    validation = shuffled([row[TRAINING_PER_CLASS:end] for row in rows], rng)
    return np.concatenate([training, validation])


def draw_test(rows: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return shuffled([row[:TEST_PER_CLASS] for row in rows], rng)


def draw_mnist(cache: Path) -> dict[str, LabelledImages]:
    """The train pool out of MNIST's training part, the test images out of its test part."""
    rng = np.random.default_rng([SEED, 0])
    train, test = load_mnist("train", cache), load_mnist("test", cache)
    return {
        "mnist-train": train.select(draw_train_pool(rows_by_class(train.labels, rng), rng)),
        "mnist-test": test.select(draw_test(rows_by_class(test.labels, rng), rng)),
    }


def draw_fashion(cache: Path) -> dict[str, LabelledImages]:
    """1,000 random images of each class are held out; the test images come from these only."""
    rng = np.random.default_rng([SEED, 1])
    fashion = load_fashion(cache)
    rows = rows_by_class(fashion.labels, rng)
    held_out = [row[:FASHION_HELD_OUT_PER_CLASS] for row in rows]
    kept = [row[FASHION_HELD_OUT_PER_CLASS:] for row in rows]
    return {
        "fashion-train": fashion.select(draw_train_pool(kept, rng)),
        "fashion-test": fashion.select(draw_test(held_out, rng)),
    }


def check_parts(parts: dict[str, LabelledImages]) -> None:
    """Every part is balanced, and no image occurs twice, within a part or across two."""
    training = CLASSES * TRAINING_PER_CLASS
    for name, part in parts.items():
        cuts = [training] if name.endswith("train") else []
        for labels in np.split(part.labels, cuts):
            counts = np.bincount(labels, minlength=CLASSES)
            if counts.min() != counts.max():
                raise ValueError(f"{name} is not balanced: {counts}")
    images = [image.tobytes() for part in parts.values() for image in part.images]
    if len(set(images)) != len(images):
        raise ValueError("an image occurs twice")


def encode_parts(parts: dict[str, LabelledImages]) -> dict[str, bytes]:
    """Uncompressed idx bytes by file name."""
    files = {}
    for name, part in parts.items():
        files[f"{name}-images-idx3-ubyte.gz"] = idx.encode(part.images)
        files[f"{name}-labels-idx1-ubyte.gz"] = idx.encode(part.labels)
    return files


def write_files(files: dict[str, bytes], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(idx.compress(content))


def write_checksums(names: list[str], output: Path) -> None:
    lines = [f"{packages.sha256_of(output / name)}  {name}\n" for name in sorted(names)]
    (output / "SHA256SUMS").write_text("".join(lines))


def check_files(files: dict[str, bytes], output: Path) -> None:
    """The bundled files hold what a fresh run draws, whatever zlib compressed them."""
    for name, content in files.items():
        if gzip.decompress((output / name).read_bytes()) != content:
            raise SystemExit(f"{name} differs from a fresh draw")
        print(f"{hashlib.sha256(content).hexdigest()}  {name} (uncompressed)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=packages.DEFAULT_CACHE)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--check", action="store_true", help="compare with the bundled files only")
    arguments = parser.parse_args()

    parts = draw_mnist(arguments.cache) | draw_fashion(arguments.cache)
    check_parts(parts)
    files = encode_parts(parts)
    if arguments.check:
        check_files(files, arguments.output)
    else:
        write_files(files, arguments.output)
        write_checksums(list(files), arguments.output)


if __name__ == "__main__":
    main()
