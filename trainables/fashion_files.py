"""Where the files of Fashion-MNIST are, and what is wrong with them when they are not usable."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.idx import IdxError, read_idx
from tuner.errors import InvalidInput

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DATA_VARIABLE = "QUARTERTURN_DATA"
REMEDY = "give its folder with --data DIR, or install Debian's package dataset-fashion-mnist"
DOWNLOAD_TIMEOUT_S = 20.0

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_fashion(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels of shape (n,).

    `data_dir` is a torchvision data folder (holding `FashionMNIST/raw`) or holds the four idx
    files itself, gzipped or not. Without it, the folder is the first that is there of the
    variable QUARTERTURN_DATA, Debian's package and `~/.cache/quarterturn`, which is downloaded
    when it is missing. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = _folder(data_dir)
    return _read_part(folder, "train"), _read_part(folder, "t10k")


def _folder(data_dir: str | None) -> Path:
    given = data_dir or os.environ.get(DATA_VARIABLE)
    if given:
        folder = Path(given).expanduser()
    elif DEBIAN_FOLDER.is_dir():
        folder = DEBIAN_FOLDER
    else:
        folder = _downloaded(Path.home() / ".cache" / "quarterturn")
    raw = folder / "FashionMNIST" / "raw"
    return raw if raw.is_dir() else folder


def _downloaded(cache: Path) -> Path:
    if (cache / "FashionMNIST").is_dir():
        return cache
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision.datasets import FashionMNIST  # type: ignore[import-untyped]

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Many trials may start at once on a new node: each downloads for itself, and the first
        # to finish moves the whole folder to its place.
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            FashionMNIST(fresh, download=True)
            if not (cache / "FashionMNIST").is_dir():
                Path(fresh, "FashionMNIST").rename(cache / "FashionMNIST")
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(
            f"Fashion-MNIST is not on this machine and cannot be downloaded into {cache} "
            f"({reason}); {REMEDY}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return cache


def _read_part(folder: Path, part: str) -> Images:
    images = _read_file(folder, f"{part}-images-idx3-ubyte", dimensions=3)
    labels = _read_file(folder, f"{part}-labels-idx1-ubyte", dimensions=1)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise _damaged(folder, f"{part}-images-idx3-ubyte", f"has images of {height}x{width}")
    if len(images) != len(labels):
        raise _damaged(
            folder,
            f"{part}-labels-idx1-ubyte",
            f"has {len(labels)} labels for {len(images)} images",
        )
    if labels.size and labels.max() > 9:
        raise _damaged(
            folder, f"{part}-labels-idx1-ubyte", f"has the label {labels.max()}, not 0-9"
        )
    return images, labels.astype(np.int64)


def _read_file(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            try:
                return read_idx(path, dimensions)
            except (IdxError, OSError) as error:
                raise _damaged(folder, path.name, str(error)) from error
    raise InvalidInput(f"Fashion-MNIST needs {name}[.gz], which is not in {folder}; {REMEDY}")


def _damaged(folder: Path, name: str, what: str) -> InvalidInput:
    return InvalidInput(f"Fashion-MNIST cannot be read from {folder}: {name} {what}; {REMEDY}")
