"""Folders of generated images in the formats that CIFAR and Tiny ImageNet are published in."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torchvision
from PIL import Image

from trainables.datasets.cifar import CifarVariant


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: bytes as its strings, and NumPy under its old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=2)

    def save_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_string

    def save_global(self, found: Any, name: str | None = None) -> None:
        if getattr(found, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(found)
        else:
            super().save_global(found, name)


def python2_pickle(value: Any) -> bytes:
    """Return the pickle of a value as Python 2 would have written it."""
    file = io.BytesIO()
    Python2Pickler(file).dump(value)
    return file.getvalue()


def generated(count: int, classes: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, shape (count, 3, size, size), and labels that take every turn."""
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return images, np.arange(count) * 7 % classes


def write_cifar(
    variant: CifarVariant, folder: Path, *, count: int = 20, binary: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write each file of a data set with `count` images; return what is in them, by file."""
    written = {}
    home = folder / (variant.binary_folder if binary else variant.folder)
    home.mkdir(parents=True)
    fine = b"" if variant.classes == 10 else b"fine_"
    labels_key, names_key = fine + b"labels", fine + b"label_names"
    for number, file in enumerate((*variant.train, variant.test)):
        images, labels = written[file] = generated(count + number, variant.classes)
        rows = images.reshape(len(images), -1)
        if binary:
            coarse = [labels // 5] if variant.binary_labels == 2 else []
            columns = np.stack([*coarse, labels], axis=1).astype(np.uint8)
            (home / f"{file}.bin").write_bytes(np.hstack([columns, rows]).tobytes())
        else:
            held = {b"data": rows, labels_key: labels.tolist(), b"filenames": [b"a.png"]}
            (home / file).write_bytes(python2_pickle(held))
    if not binary:
        meta = getattr(torchvision.datasets, variant.torchvision_name).meta["filename"]
        names = [f"class {number}".encode() for number in range(variant.classes)]
        (home / meta).write_bytes(python2_pickle({names_key: names}))
    return written


def publish(variant: CifarVariant, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision expect the checksums of the written files in place of the published ones."""
    source = getattr(torchvision.datasets, variant.torchvision_name)

    def checksum(file: str) -> str:
        return hashlib.md5((folder / variant.folder / file).read_bytes()).hexdigest()

    for files in ("train_list", "test_list"):
        own = [[file, checksum(file)] for file, _ in getattr(source, files)]
        monkeypatch.setattr(source, files, own)
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": checksum(source.meta["filename"])})


def write_tiny(
    folder: Path, *, classes: int = 3, train: int = 4, validation: int = 5
) -> tuple[list[str], Path]:
    """Write a small `tiny-imagenet-200`; return its classes in file order, and the folder.

    Image i of class c is of the single colour (40 c, 10 i, 200), so that it survives JPEG; the
    last of each class is gray.
    """
    home = folder / "tiny-imagenet-200"
    names = [f"n{900 - number:04}" for number in range(classes)]
    home.mkdir(parents=True)
    (home / "wnids.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate(names):
        images = home / "train" / name / "images"
        images.mkdir(parents=True)
        for image in range(train - 1):
            colour(number, image).save(images / f"{name}_{image}.JPEG", quality=100)
        Image.new("L", (64, 64), 50 + number).save(images / f"{name}_{train - 1}.JPEG")
    (home / "val" / "images").mkdir(parents=True)
    lines = []
    for image in range(validation):
        number = image % classes
        colour(number, image).save(home / "val" / "images" / f"val_{image}.JPEG", quality=100)
        lines.append(f"val_{image}.JPEG\t{names[number]}\t0\t0\t62\t62")
    (home / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return names, home


def colour(number: int, image: int) -> Image.Image:
    """Return a picture of one colour that tells the class and the image."""
    return Image.new("RGB", (64, 64), (40 * number, 10 * image, 200))
