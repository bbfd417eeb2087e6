"""Pickles of arrays and plain containers, read without running what they hold."""

from __future__ import annotations

import codecs
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = re.compile(r"[iu][1248]")
"""The types of array that are read: whole numbers of one to eight bytes."""


class PickleError(ValueError):
    """The file is no pickle of plain values; the message tells what is wrong with it."""


# NumPy itself trusts what a pickle tells it of an array, to the point of crashing. These two stand
# in for its classes while a file is read, and let only whole arrays of whole numbers through.


class _Type:
    def __init__(self, name: bytes | str, *_: object):
        self.name = _text(name)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])


class _Array:
    def __init__(self, *_: object) -> None:
        self.held = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, content = state
        if not isinstance(kind, _Type) or not NUMBERS.fullmatch(kind.name):
            raise pickle.UnpicklingError("it holds an array of something else than whole numbers")
        array = np.frombuffer(content, kind.order + kind.name)
        self.held = array.reshape(shape, order="F" if by_column else "C")


def _text(value: bytes | str) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


_ALLOWED = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    # Which of the two depends on the age of the NumPy that wrote the file.
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    # How Python 3 writes bytes in the protocols of Python 2.
    ("_codecs", "encode"): codecs.encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def load_plain(path: Path) -> Any:
    """Return what a pickle holds: a dict, say, of NumPy arrays, bytes, numbers and lists.

    Python 2's strings come back as bytes, and arrays are those of whole numbers. Raises
    `PickleError` for anything else or a damaged file, and `OSError` when it cannot be read at all.
    """
    with path.open("rb") as file:
        try:
            value = _PlainUnpickler(file, encoding="bytes").load()
        except (
            # Whatever bytes that are no pickle may ask the machine to do.
            pickle.UnpicklingError,
            EOFError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OverflowError,
            MemoryError,
        ) as error:
            raise PickleError(f"cannot be unpickled ({error})") from error
    if not isinstance(value, dict):
        return value
    return {key: held.held if isinstance(held, _Array) else held for key, held in value.items()}
