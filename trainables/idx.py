"""The idx file format of MNIST and its successors: big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class IdxError(ValueError):
    """The file is not what its name says; the message tells what is wrong with it."""


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of bytes in an idx file, gzipped when its name ends in `.gz`.

    Raises `IdxError` for another format, number of dimensions or length than the header says,
    and `OSError` when the file cannot be read at all.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IdxError(f"cannot be unzipped ({error})") from error
    # Two zero bytes, 8 for unsigned bytes, and the number of dimensions.
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise IdxError(f"starts with {content[:4].hex() or 'nothing'}, not {magic.hex()}")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise IdxError(f"ends after {len(content)} bytes, within its header")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise IdxError(
            f"holds {len(content) - header} bytes of data where its header says {math.prod(shape)}"
        )
    # A copy, since torch wants memory that it may write to.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
