"""Labelled 28x28 images in the four idx files that MNIST and Fashion-MNIST share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.idx import IdxError, read_idx
from tuner.errors import InvalidInput

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
