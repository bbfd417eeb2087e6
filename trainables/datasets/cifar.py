"""CIFAR-10 and CIFAR-100: find, check and read the files without running code."""

from __future__ import annotations

import codecs
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.images import Images, downloaded, given_folder
from tuner.errors import InvalidInput

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


PIXELS = 3 * 32 * 32
Array = NDArray[Any]


class Kind(NamedTuple):
    """The names that one of the two data sets goes by in its files."""

    name: str
    classes: int
    folder: str
    train: tuple[str, ...]
    test: str
    labels: bytes
    binary_folder: str
    binary_labels: int
    """Bytes of labels before each image in the binary version; the last of them is the class."""


CIFAR10 = Kind(
    "CIFAR-10",
    10,
    "cifar-10-batches-py",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    b"labels",
    "cifar-10-batches-bin",
    1,
)
CIFAR100 = Kind(
    "CIFAR-100", 100, "cifar-100-python", ("train",), "test", b"fine_labels", "cifar-100-binary", 2
)


def read_cifar(kind: Kind, data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 3, 32, 32), each with labels (n,).

    `data_dir`, or else the variable QUARTERTURN_DATA, holds the unpacked folder of the python or
    the binary version, or is that folder; CIFAR-100's labels are the fine ones. Without either it
    is `~/.cache/quarterturn`, which is downloaded when it is missing. Pickles are read without
    running what is in them. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None:
        folder = downloaded(kind.name, kind.folder, partial(_download, kind), _remedy(kind))
    for inner in (kind.folder, kind.binary_folder):
        if (folder / inner).is_dir():
            folder /= inner
            break
    binary = folder.name == kind.binary_folder
    read, suffix = (_read_binary, ".bin") if binary else (_read_pickle, "")
    parts = [read(folder / f"{file}{suffix}", kind) for file in (*kind.train, kind.test)]
    train = tuple(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return (train[0], train[1]), parts[-1]


def _download(kind: Kind, root: str) -> None:
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision import datasets  # type: ignore[import-untyped]

    getattr(datasets, kind.name.replace("-", ""))(root, download=True)


def _remedy(kind: Kind) -> str:
    return f"give the folder that holds {kind.folder} with --data DIR"


def _read_pickle(path: Path, kind: Kind) -> Images:
    try:
        held = load_plain(_present(path, kind))
    except (PickleError, OSError) as error:
        raise _damaged(path, kind, str(error)) from error
    if not isinstance(held, dict) or not {b"data", kind.labels} <= held.keys():
        raise _damaged(path, kind, f"has no 'data' and {kind.labels.decode()!r}")
    images, labels = held[b"data"], np.asarray(held[kind.labels])
    if getattr(images, "dtype", None) != np.uint8 or images.shape[1:] != (PIXELS,):
        raise _damaged(path, kind, f"has no rows of {PIXELS} bytes under 'data'")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise _damaged(path, kind, f"has no whole numbers under {kind.labels.decode()!r}")
    return _checked(images, labels, path, kind)


def _read_binary(path: Path, kind: Kind) -> Images:
    content = np.fromfile(_present(path, kind), np.uint8)
    row = kind.binary_labels + PIXELS
    if not content.size or content.size % row:
        raise _damaged(path, kind, f"holds {content.size} bytes, not rows of {row}")
    rows = content.reshape(-1, row)
    return _checked(rows[:, kind.binary_labels :], rows[:, kind.binary_labels - 1], path, kind)


def _present(path: Path, kind: Kind) -> Path:
    if not path.is_file():
        raise InvalidInput(
            f"{kind.name} needs {path.name}, which is not in {path.parent}; {_remedy(kind)}"
        )
    return path


def _checked(images: Array, labels: Array, path: Path, kind: Kind) -> Images:
    if len(images) != len(labels):
        raise _damaged(path, kind, f"has {len(labels)} labels for {len(images)} images")
    if labels.size and not 0 <= labels.min() <= labels.max() < kind.classes:
        bad = labels.max() if labels.max() >= kind.classes else labels.min()
        raise _damaged(path, kind, f"has the label {bad}, not 0-{kind.classes - 1}")
    # A copy, since torch wants memory that it may write to.
    return images.reshape(-1, 3, 32, 32).copy(), labels.astype(np.int64)


def _damaged(path: Path, kind: Kind, what: str) -> InvalidInput:
    return InvalidInput(
        f"{kind.name} cannot be read from {path.parent}: {path.name} {what}; {_remedy(kind)}"
    )
