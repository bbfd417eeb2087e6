"""Image data sets in idx files (MNIST, Fashion-MNIST): folders, downloads, splits, augmentation."""

from __future__ import annotations

import gzip
import math
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.training.data import Data
from tuner.errors import InvalidInput


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


Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images, first axis: samples; and a class for each, shape (n,)."""


def read_idx_images(folder: Path, name: str, remedy: str) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels 0 to 9.

    The files are gzipped or not. Raises `InvalidInput`, with the data set's `name` and the
    `remedy`, when one is missing or damaged.
    """
    return _read_part(folder, "train", name, remedy), _read_part(folder, "t10k", name, remedy)


def _read_part(folder: Path, part: str, name: str, remedy: str) -> Images:
    def damaged(file: str, what: str) -> InvalidInput:
        return InvalidInput(f"{name} cannot be read from {folder}: {file} {what}; {remedy}")

    def read(file: str, dimensions: int) -> NDArray[np.uint8]:
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                try:
                    return read_idx(path, dimensions)
                except (IdxError, OSError) as error:
                    raise damaged(path.name, str(error)) from error
        raise InvalidInput(f"{name} needs {file}[.gz], which is not in {folder}; {remedy}")

    images_file, labels_file = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images, labels = read(images_file, 3), read(labels_file, 1)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise damaged(images_file, f"has images of {height}x{width}")
    if len(images) != len(labels):
        raise damaged(labels_file, f"has {len(labels)} labels for {len(images)} images")
    if labels.size and labels.max() > 9:
        raise damaged(labels_file, f"has the label {labels.max()}, not 0-9")
    return images, labels.astype(np.int64)


DATA_VARIABLE = "QUARTERTURN_DATA"
DOWNLOAD_TIMEOUT_S = 20.0


def given_folder(data_dir: str | None) -> Path | None:
    """Return the folder of `data_dir` or else of QUARTERTURN_DATA, and None when neither is set."""
    given = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else None


def cache_folder() -> Path:
    """Return where downloads and converted data sets are kept; it need not exist."""
    return Path.home() / ".cache" / "quarterturn"


def downloaded(name: str, part: str, download: Callable[[str], object], remedy: str) -> Path:
    """Return the cache folder, with the folder `part` in it, downloading that when it is missing.

    `download(root)` writes `root/part`. Many trials may start at once on a new node: each
    downloads for itself, and the first to finish moves the whole folder to its place. Raises
    `InvalidInput`, with `name` and `remedy`, when there is no way to the files.
    """
    cache = cache_folder()
    if (cache / part).is_dir():
        return cache
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            download(fresh)
            if not (cache / part).is_dir():
                Path(fresh, part).rename(cache / part)
    except (OSError, RuntimeError) as error:
        if (cache / part).is_dir():  # another trial was first, between the question and the move
            return cache
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(
            f"{name} is not on this machine and cannot be downloaded into {cache} "
            f"({reason}); {remedy}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return cache


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_REMEDY = (
    "give its folder with --data DIR, or install Debian's package dataset-fashion-mnist"
)


def read_fashion(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels of shape (n,).

    `data_dir` is a torchvision data folder (holding `FashionMNIST/raw`) or holds the four idx
    files itself, gzipped or not. Without it, the folder is the first that is there of the
    variable QUARTERTURN_DATA, Debian's package and `~/.cache/quarterturn`, which is downloaded
    when it is missing. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None and DEBIAN_FOLDER.is_dir():
        folder = DEBIAN_FOLDER
    if folder is None:
        folder = downloaded("Fashion-MNIST", "FashionMNIST", _download_fashion, FASHION_REMEDY)
    raw = folder / "FashionMNIST" / "raw"
    return read_idx_images(raw if raw.is_dir() else folder, "Fashion-MNIST", FASHION_REMEDY)


def _download_fashion(root: str) -> None:
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision.datasets import FashionMNIST  # type: ignore[import-untyped]

    FashionMNIST(root, download=True)


MNIST_REMEDY = "give its folder with --data DIR, or use mnist-features-small, which needs no files"


def read_mnist(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels of shape (n,).

    `data_dir`, or else the variable QUARTERTURN_DATA, is a torchvision data folder (holding
    `MNIST/raw`) or holds the four idx files itself, gzipped or not; they bear the same names as
    Fashion-MNIST's. Without either it is `~/.cache/quarterturn`, which is downloaded when it is
    missing. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None:
        folder = downloaded("MNIST", "MNIST", _download_mnist, MNIST_REMEDY)
    raw = folder / "MNIST" / "raw"
    return read_idx_images(raw if raw.is_dir() else folder, "MNIST", MNIST_REMEDY)


def _download_mnist(root: str) -> None:
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision.datasets import MNIST

    MNIST(root, download=True)


def stratified(pixels: NDArray[np.uint8], labels: NDArray[np.int64], held_out: int) -> Data:
    """Return Data whose validation and test split hold `held_out` samples each.

    Every class has its share in each split; the choice is always the same one.
    """
    # Takes a second, which only who loads data need spend.
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    rest, test, rest_labels, test_labels = train_test_split(
        pixels, labels, test_size=held_out, stratify=labels, random_state=0
    )
    train, validation, train_labels, validation_labels = train_test_split(
        rest, rest_labels, test_size=held_out, stratify=rest_labels, random_state=0
    )
    return Data(
        (torch.from_numpy(train), torch.from_numpy(train_labels)),
        (torch.from_numpy(validation), torch.from_numpy(validation_labels)),
        (torch.from_numpy(test), torch.from_numpy(test_labels)),
    )


def tenth_for_validation(train: Images, test: Images, *, at_most: int | None = None) -> Data:
    """Return Data whose validation split is a random tenth of the training images.

    Of that tenth only `at_most` images are kept, if given.

    The choice is always the same one, and does not keep the classes' shares, as the authors of
    arXiv:1806.01603 draw theirs (`get_val_split`).
    """
    order = np.random.default_rng(0).permutation(len(train[0]))
    held_out = len(order) // 10
    return Data(
        _tensors(train, order[held_out:]),
        _tensors(train, order[:held_out][:at_most]),
        _tensors(test),
    )


def samples_of_each_class(train: Images, test: Images, count: int) -> Data:
    """Return Data that trains on `count` random images of each class, or on what there is of it.

    Validation is a random tenth of `train`, taken out before. The choice is always the same one.
    """
    labels = train[1]
    order = np.random.default_rng(0).permutation(len(labels))
    held_out = len(order) // 10
    rest = order[held_out:]
    chosen = [rest[labels[rest] == label][:count] for label in np.unique(labels)]
    return Data(
        _tensors(train, np.concatenate(chosen)), _tensors(train, order[:held_out]), _tensors(test)
    )


def _tensors(images: Images, numbers: NDArray[np.int64] | None = None) -> tuple[Tensor, Tensor]:
    pixels, labels = images
    if numbers is not None:
        pixels, labels = pixels[numbers], labels[numbers]
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def flip_and_shift(images: Tensor, max_shift_px: int) -> Tensor:
    """Return each image shifted by whole pixels and, half of them, mirrored left to right.

    The shifts down and to the right are drawn evenly from -max_shift_px .. max_shift_px, for each
    image apart. What comes in at an edge is the image reflected there, its edge pixel repeated
    (`d c b a | a b c d | d c b a`), as the authors of arXiv:1806.01603 fill theirs. They shift by
    fractions of a pixel too and interpolate; whole pixels keep the bytes bytes.

    Args:
        images: shape (n, channels, height, width), any dtype, on any device.
        max_shift_px: >= 0 and at most the smaller of height and width.

    The result has the same shape, dtype and device. Everything is drawn from torch's global
    generator of that device, which a trial's checkpoints hold.
    """
    count, channels, height, width = images.shape
    device = images.device
    shifts = torch.randint(-max_shift_px, max_shift_px + 1, (2, count, 1), device=device)
    mirrored = torch.rand(count, 1, device=device) < 0.5
    rows = _reflected(torch.arange(height, device=device) - shifts[0], height)
    columns = _reflected(torch.arange(width, device=device) - shifts[1], width)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    # One gather for the whole batch: the number of the pixel that each pixel is taken from.
    source = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, height * width)
    moved = images.flatten(2).gather(2, source.expand(-1, channels, -1))
    return moved.view(images.shape)


def _reflected(position: Tensor, size: int) -> Tensor:
    # -1 is 0 again, and `size` is `size - 1`: the edge pixel stands twice.
    inside = torch.where(position < 0, -1 - position, position)
    return torch.where(inside >= size, 2 * size - 1 - inside, inside)
