"""Tiny ImageNet: a folder of 110,000 JPEGs, decoded once into one file of arrays."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.datasets.images import Images, cache_folder, given_folder
from tuner.errors import InvalidInput

NAME = "Tiny ImageNet"
FOLDER = "tiny-imagenet-200"
SIZE_PX = 64
REMEDY = (
    "unpack https://cs231n.stanford.edu/tiny-imagenet-200.zip "
    f"and give the folder that holds {FOLDER} with --data DIR"
)


def read_tiny_imagenet(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the validation images, shape (n, 3, 64, 64), each with labels (n,).

    A label is the position of the class among the sorted names in `wnids.txt`. Gray images get
    three equal channels. The official test images have no labels and are not read.

    Pillow decodes the images once, in about a minute. The arrays are then kept in
    `tiny-imagenet-200.npz` beside the folder, or in `~/.cache/quarterturn` if that file cannot be
    written. They are read from there while the folder has the same number of images.

    Args:
        data_dir: holds the folder `tiny-imagenet-200`, or is that folder. Default: the environment
            variable QUARTERTURN_DATA, or else `~/.cache/quarterturn`.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    given = given_folder(data_dir) or cache_folder()
    folder = given if given.name == FOLDER else given / FOLDER
    train, validation = _list_images(folder)
    caches = _cache_files(folder)
    for cache in caches:
        found = _read_cache(cache, len(train[0]), len(validation[0]))
        if found:
            return found
    decoded = (_decode(*train), _decode(*validation))
    for cache in caches:
        if _write_cache(cache, decoded):
            break
    return decoded


Listing = tuple[list[Path], list[int]]


def _list_images(folder: Path) -> tuple[Listing, Listing]:
    """Return the paths and classes of the training images and of the validation images."""
    classes = sorted(_lines(folder / "wnids.txt"))
    number = {name: place for place, name in enumerate(classes)}
    train: Listing = ([], [])
    for name in classes:
        images = sorted((folder / "train" / name / "images").glob("*.JPEG"))
        if not images:
            raise InvalidInput(
                f"{NAME} needs images of the class {name}, and there are none in "
                f"{folder / 'train' / name / 'images'}; {REMEDY}"
            )
        train[0].extend(images)
        train[1].extend([number[name]] * len(images))
    validation: Listing = ([], [])
    for line in _lines(folder / "val" / "val_annotations.txt"):
        file, name = (*line.split("\t"), "")[:2]
        if name not in number:
            raise InvalidInput(
                f"{NAME} cannot be read from {folder}: val/val_annotations.txt has the class "
                f"{name!r} for {file!r}, which wnids.txt does not list; {REMEDY}"
            )
        validation[0].append(folder / "val" / "images" / file)
        validation[1].append(number[name])
    return train, validation


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{NAME} needs {path.name}, which is not in {path.parent}; {REMEDY}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{NAME} cannot be read from {path}: {error}; {REMEDY}") from error
    if not lines:
        raise InvalidInput(f"{NAME} cannot be read from {path}: it is empty; {REMEDY}")
    return lines


def _decode(paths: Sequence[Path], labels: Sequence[int]) -> Images:
    images = np.empty((len(paths), 3, SIZE_PX, SIZE_PX), np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, SyntaxError) as error:  # Pillow raises both for a damaged file
            what = "is missing" if not path.exists() else f"cannot be decoded ({error})"
            raise _damaged(path, what) from error
        if pixels.shape != (SIZE_PX, SIZE_PX, 3):
            height, width, _ = pixels.shape
            raise _damaged(path, f"has {height}x{width} pixels, not {SIZE_PX}x{SIZE_PX}")
        images[place] = pixels.transpose(2, 0, 1)
    return images, np.asarray(labels, np.int64)


def _damaged(path: Path, what: str) -> InvalidInput:
    return InvalidInput(f"{NAME} cannot be read from {path.parent}: {path.name} {what}; {REMEDY}")


def _cache_files(folder: Path) -> tuple[Path, Path]:
    # The cache in the home folder may hold the arrays of several folders of images.
    which = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return folder.with_suffix(".npz"), cache_folder() / f"{FOLDER}-{which}.npz"


def _read_cache(cache: Path, train: int, validation: int) -> tuple[Images, Images] | None:
    """Return the arrays of a cache file, or None if it is missing or has other images."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as held:
            found = ((held["train"], held["train_labels"]), (held["val"], held["val_labels"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    counts = [len(array) for part in found for array in part]
    whole = all(images.shape[1:] == (3, SIZE_PX, SIZE_PX) for images, _ in found)
    return found if whole and counts == [train, train, validation, validation] else None


def _write_cache(cache: Path, decoded: tuple[Images, Images]) -> bool:
    """Write the cache file completely or not at all; return whether it was written."""
    arrays: dict[str, NDArray[np.generic]] = dict(
        zip(("train", "train_labels", "val", "val_labels"), decoded[0] + decoded[1], strict=True)
    )
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(suffix=".part", dir=cache.parent)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        Path(fresh).replace(cache)
    except OSError:  # A full disk: training continues without the cache.
        Path(fresh).unlink(missing_ok=True)
        return False
    return True
