"""Images in idx files (MNIST, Fashion-MNIST): folders, downloads, splits and augmentation."""

from __future__ import annotations

import gzip
import math
import os
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.training.data import Data
from tuner.errors import InvalidInput

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images, first axis: samples; and a class for each, shape (n,)."""

DATA_VARIABLE = "QUARTERTURN_DATA"
DOWNLOAD_TIMEOUT_S = 20.0
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_REMEDY = (
    "give its folder with --data DIR, or install Debian's package dataset-fashion-mnist"
)
MNIST_REMEDY = "give its folder with --data DIR, or use mnist-features-small, which needs no files"


def read_fashion(data_dir: str | None) -> tuple[Images, Images]:
    """Return Fashion-MNIST's training and test images, (n, 28, 28), each with labels (n,).

    Args:
        data_dir: a torchvision data folder (it holds `FashionMNIST/raw`), or a folder of the four
            idx files, gzipped or not. Default: the first that exists of the environment variable
            QUARTERTURN_DATA, the folder of Debian's package, and `~/.cache/quarterturn`, where the
            files are downloaded if they are missing.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None and DEBIAN_FOLDER.is_dir():
        folder = DEBIAN_FOLDER
    if folder is None:
        folder = download_once("Fashion-MNIST", "FashionMNIST", "FashionMNIST", FASHION_REMEDY)
    raw = folder / "FashionMNIST" / "raw"
    return _read_splits(raw if raw.is_dir() else folder, "Fashion-MNIST", FASHION_REMEDY)


def read_mnist(data_dir: str | None) -> tuple[Images, Images]:
    """Return MNIST's training and test images, shape (n, 28, 28), each with labels (n,).

    Args:
        data_dir: a torchvision data folder (it holds `MNIST/raw`), or a folder of the four idx
            files, gzipped or not. They have the same names as those of Fashion-MNIST. Default: the
            environment variable QUARTERTURN_DATA, or else `~/.cache/quarterturn`, where the files
            are downloaded if they are missing.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None:
        folder = download_once("MNIST", "MNIST", "MNIST", MNIST_REMEDY)
    raw = folder / "MNIST" / "raw"
    return _read_splits(raw if raw.is_dir() else folder, "MNIST", MNIST_REMEDY)


def _read_splits(folder: Path, name: str, remedy: str) -> tuple[Images, Images]:
    return _read_split(folder, "train", name, remedy), _read_split(folder, "t10k", name, remedy)


def _read_split(folder: Path, split: str, name: str, remedy: str) -> Images:
    def damaged(file: str, what: str) -> InvalidInput:
        return InvalidInput(f"{name} cannot be read from {folder}: {file} {what}; {remedy}")

    def read(file: str, dimensions: int) -> NDArray[np.uint8]:
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                try:
                    return _read_idx(path, dimensions)
                except (_IdxError, OSError) as error:
                    raise damaged(path.name, str(error)) from error
        raise InvalidInput(f"{name} needs {file}[.gz], which is not in {folder}; {remedy}")

    images_file, labels_file = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
    images, labels = read(images_file, 3), read(labels_file, 1)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise damaged(images_file, f"has images of {height}x{width}")
    if len(images) != len(labels):
        raise damaged(labels_file, f"has {len(labels)} labels for {len(images)} images")
    if labels.size and labels.max() > 9:
        raise damaged(labels_file, f"has the label {labels.max()}, not 0-9")
    return images, labels.astype(np.int64)


class _IdxError(ValueError):
    """The file is not an idx file of the expected shape; the message says why."""


# Torchvision's reader cannot read gzipped files such as Debian's, and importing it takes each trial
# process more than a second.
def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of bytes in an idx file, gzipped if its name ends in `.gz`."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _IdxError(f"cannot be unzipped ({error})") from error
    # Two zero bytes, 8 for unsigned bytes, and the number of dimensions.
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise _IdxError(f"starts with {content[:4].hex() or 'nothing'}, not {magic.hex()}")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise _IdxError(f"ends after {len(content)} bytes, within its header")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise _IdxError(
            f"holds {len(content) - header} bytes of data, but its header says {math.prod(shape)}"
        )
    # A copy, because torch needs memory that it can write to.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def given_folder(data_dir: str | None) -> Path | None:
    """Return the folder of `data_dir`, or else of QUARTERTURN_DATA, or None if neither is set."""
    given = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else None


def cache_folder() -> Path:
    """Return the folder for downloaded and converted data sets; it need not exist."""
    return Path.home() / ".cache" / "quarterturn"


def download_once(name: str, part: str, torchvision_name: str, remedy: str) -> Path:
    """Return the cache folder; download a data set into it if the set is missing.

    Many trials may start at the same time on a new node. Each downloads into its own folder. The
    first to finish moves the whole set into the cache.

    Args:
        name: the name of the data set, for the error message.
        part: the data set's folder in the cache.
        torchvision_name: the class in `torchvision.datasets` that downloads the data set.
        remedy: the end of the error message.

    Raises:
        InvalidInput: the data set cannot be downloaded.
    """
    cache = cache_folder()
    if (cache / part).is_dir():
        return cache
    # Imported here because it takes more than a second and is needed once on a machine.
    from torchvision import datasets  # type: ignore[import-untyped]

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            getattr(datasets, torchvision_name)(fresh, download=True)
            if not (cache / part).is_dir():
                Path(fresh, part).rename(cache / part)
    except (OSError, RuntimeError) as error:
        if (cache / part).is_dir():  # another trial was faster, between the check and the move
            return cache
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(
            f"{name} is not on this machine and cannot be downloaded into {cache} "
            f"({reason}); {remedy}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return cache


def stratified(pixels: NDArray[np.uint8], labels: NDArray[np.int64], held_out: int) -> Data:
    """Return Data with the same share of every class in each split; the choice never changes.

    Args:
        pixels: the images, first axis: samples.
        labels: their classes, shape (n,).
        held_out: samples of the validation split, and of the test split.
    """
    # The import takes a second, so only processes that load data pay for it.
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

    The choice never changes. It ignores the classes, as the authors of arXiv:1806.01603 do
    (`get_val_split`).

    Args:
        train: the images to split.
        test: the test split.
        at_most: how many images of the tenth to keep; None keeps all.
    """
    order = np.random.default_rng(0).permutation(len(train[0]))
    held_out = len(order) // 10
    return Data(
        _tensors(train, order[held_out:]),
        _tensors(train, order[:held_out][:at_most]),
        _tensors(test),
    )


def samples_of_each_class(train: Images, test: Images, count: int) -> Data:
    """Return Data that trains on random images of each class; the choice never changes.

    Args:
        train: the images to split. A random tenth is taken for validation first.
        test: the test split.
        count: training images of each class, or all if there are fewer.
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
    """Return each image shifted by whole pixels, and half of them mirrored left to right.

    The shifts down and to the right are uniform in -max_shift_px .. max_shift_px, separately for
    each image. The pixels beyond an edge are the image reflected there, with the edge pixel
    repeated (`d c b a | a b c d | d c b a`), as the authors of arXiv:1806.01603 do. Unlike theirs,
    the shifts are whole pixels, so that bytes stay bytes.

    Args:
        images: shape (n, channels, height, width), any dtype, on any device.
        max_shift_px: >= 0 and at most the smaller of height and width.

    Returns:
        A tensor of the same shape, dtype and device. The random numbers come from torch's global
        generator of that device, which a trial's checkpoints hold.
    """
    count, channels, height, width = images.shape
    device = images.device
    shifts = torch.randint(-max_shift_px, max_shift_px + 1, (2, count, 1), device=device)
    mirrored = torch.rand(count, 1, device=device) < 0.5
    rows = _reflected(torch.arange(height, device=device) - shifts[0], height)
    columns = _reflected(torch.arange(width, device=device) - shifts[1], width)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    # One gather for the whole batch: the position from which each pixel is taken.
    source = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, height * width)
    moved = images.flatten(2).gather(2, source.expand(-1, channels, -1))
    return moved.view(images.shape)


def _reflected(position: Tensor, size: int) -> Tensor:
    # Position -1 is 0, and `size` is `size - 1`: the edge pixel is repeated.
    inside = torch.where(position < 0, -1 - position, position)
    return torch.where(inside >= size, 2 * size - 1 - inside, inside)
