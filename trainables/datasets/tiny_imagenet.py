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

    A label is the place of the class among the sorted names in `wnids.txt`; gray images are given
    three equal channels. The official test images have no labels and are left alone. `data_dir`,
    or else the variable QUARTERTURN_DATA, or else `~/.cache/quarterturn`, holds the folder
    `tiny-imagenet-200` or is it.

    Decoding takes about a minute, once: the arrays are then kept in `tiny-imagenet-200.npz` beside
    the folder, or in `~/.cache/quarterturn` where that cannot be written, and are read from there
    for as long as the folder has as many images. Raises `InvalidInput` when a file is missing or
    damaged.
    """
    given = given_folder(data_dir) or cache_folder()
    folder = given if given.name == FOLDER else given / FOLDER
    train, validation = _listed(folder)
    caches = _cache_files(folder)
    for cache in caches:
        found = _cached(cache, len(train[0]), len(validation[0]))
        if found:
            return found
    decoded = (_decoded(*train), _decoded(*validation))
    for cache in caches:
        if _kept(cache, decoded):
            break
    return decoded


Listing = tuple[list[Path], list[int]]


def _listed(folder: Path) -> tuple[Listing, Listing]:
    """Return the images' paths and classes, of the training and of the validation part."""
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


def _decoded(paths: Sequence[Path], labels: Sequence[int]) -> Images:
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
    # In the home folder, several folders of images must not be taken for one another.
    which = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return folder.with_suffix(".npz"), cache_folder() / f"{FOLDER}-{which}.npz"


def _cached(cache: Path, train: int, validation: int) -> tuple[Images, Images] | None:
    """Return what a cache file holds, or None when it is not there or not of these images."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as held:
            found = ((held["train"], held["train_labels"]), (held["val"], held["val_labels"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    counts = [len(array) for part in found for array in part]
    whole = all(images.shape[1:] == (3, SIZE_PX, SIZE_PX) for images, _ in found)
    return found if whole and counts == [train, train, validation, validation] else None


def _kept(cache: Path, decoded: tuple[Images, Images]) -> bool:
    """Write the cache file, whole or not at all, and return whether that was possible."""
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
    except OSError:  # a full disk: training goes on without the cache
        Path(fresh).unlink(missing_ok=True)
        return False
    return True
