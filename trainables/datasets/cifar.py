"""CIFAR-10 and CIFAR-100: find the files, and read the python version or the binary version."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.images import Images, download_once, given_folder
from tuner.errors import InvalidInput

PIXELS = 3 * 32 * 32


class CifarVariant(NamedTuple):
    """The names of one of the two data sets, and the layout of its binary files."""

    name: str
    torchvision_name: str
    classes: int
    folder: str
    train: tuple[str, ...]
    test: str
    binary_folder: str
    binary_labels: int
    """Bytes of labels before each image in the binary version; the last of them is the class."""


CIFAR10 = CifarVariant(
    "CIFAR-10",
    "CIFAR10",
    10,
    "cifar-10-batches-py",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test_batch",
    "cifar-10-batches-bin",
    1,
)
CIFAR100 = CifarVariant(
    "CIFAR-100", "CIFAR100", 100, "cifar-100-python", ("train",), "test", "cifar-100-binary", 2
)


def read_cifar(variant: CifarVariant, data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 3, 32, 32), each with labels (n,).

    The labels of CIFAR-100 are the fine ones. Torchvision reads the python version: it unpickles a
    file only if the file has the published MD5 checksum.

    Args:
        variant: `CIFAR10` or `CIFAR100`.
        data_dir: holds the unpacked folder of the python or the binary version, or is that folder.
            Default: the environment variable QUARTERTURN_DATA, or else `~/.cache/quarterturn`,
            where the python version is downloaded if it is missing.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None:
        folder = download_once(
            variant.name, variant.folder, variant.torchvision_name, _remedy(variant)
        )
    for inner in (variant.folder, variant.binary_folder):
        if (folder / inner).is_dir():
            folder /= inner
            break
    if folder.name == variant.binary_folder:
        return _read_binary(folder, variant)
    return _read_python(folder, variant)


def _remedy(variant: CifarVariant) -> str:
    return f"give the folder that holds {variant.folder} with --data DIR"


def _read_python(folder: Path, variant: CifarVariant) -> tuple[Images, Images]:
    # Imported here because it takes more than a second, and few trials need it.
    from torchvision import datasets  # type: ignore[import-untyped]

    published = getattr(datasets, variant.torchvision_name)
    # The folder may have any name.
    source = type(published.__name__, (published,), {"base_folder": ""})
    try:
        train, test = (source(folder, train=train) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise _explained(error, published, folder, variant) from error
    return _as_images(train), _as_images(test)


def _as_images(dataset: Any) -> Images:
    # Torchvision has the channels last.
    return np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2)), np.asarray(dataset.targets)


def _explained(
    error: Exception, published: Any, folder: Path, variant: CifarVariant
) -> InvalidInput:
    """Return the error that names the missing or damaged file; torchvision does not name it."""
    from torchvision.datasets.utils import check_integrity  # type: ignore[import-untyped]

    meta = (published.meta["filename"], published.meta["md5"])
    for file, md5 in (*published.train_list, *published.test_list, meta):
        path = _present(folder / file, variant)
        try:
            if not check_integrity(path, md5):
                what = "is not the published file: its MD5 checksum is different"
                return _damaged(path, variant, what)
        except OSError as unreadable:
            return _damaged(path, variant, f"cannot be read ({unreadable.strerror})")
    return _damaged(folder, variant, f"raises {type(error).__name__}")


def _read_binary(folder: Path, variant: CifarVariant) -> tuple[Images, Images]:
    parts = [
        _read_binary_file(folder / f"{file}.bin", variant)
        for file in (*variant.train, variant.test)
    ]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return (images, labels), parts[-1]


def _read_binary_file(path: Path, variant: CifarVariant) -> Images:
    # Torchvision has no reader for the binary version.
    content: NDArray[np.uint8] = np.fromfile(_present(path, variant), np.uint8)
    row = variant.binary_labels + PIXELS
    if not content.size or content.size % row:
        raise _damaged(path, variant, f"holds {content.size} bytes, not rows of {row}")
    rows = content.reshape(-1, row)
    images, labels = rows[:, variant.binary_labels :], rows[:, variant.binary_labels - 1]
    if labels.max() >= variant.classes:
        raise _damaged(path, variant, f"has the label {labels.max()}, not 0-{variant.classes - 1}")
    # A copy, because torch needs memory that it can write to.
    return images.reshape(-1, 3, 32, 32).copy(), labels.astype(np.int64)


def _present(path: Path, variant: CifarVariant) -> Path:
    if not path.is_file():
        raise InvalidInput(
            f"{variant.name} needs {path.name}, which is not in {path.parent}; {_remedy(variant)}"
        )
    return path


def _damaged(path: Path, variant: CifarVariant, what: str) -> InvalidInput:
    return InvalidInput(
        f"{variant.name} cannot be read from {path.parent}: {path.name} {what}; {_remedy(variant)}"
    )
