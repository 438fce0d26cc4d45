"""The idx format of MNIST: unsigned bytes behind a big-endian shape header."""

import gzip
import struct

import numpy as np

UNSIGNED_BYTE = 0x08


def decode(data: bytes) -> np.ndarray:
    zeros, element_type, rank = struct.unpack_from(">HBB", data)
    if zeros != 0 or element_type != UNSIGNED_BYTE:
        raise ValueError("not an idx file of unsigned bytes")
    shape = struct.unpack_from(f">{rank}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def encode(array: np.ndarray) -> bytes:
    if array.dtype != np.uint8:
        raise ValueError(f"idx holds unsigned bytes, not {array.dtype}")
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()


def compress(data: bytes) -> bytes:
    """gzip at the highest level, without a time stamp or a file name."""
    return gzip.compress(data, compresslevel=9, mtime=0)
