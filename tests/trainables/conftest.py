"""What the tests of the trainables share: a place for Ray's folders, and Fashion-like files."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.tune.trainable import trainable as ray_trainable


@pytest.fixture(autouse=True)
def _results_outside_home(tmp_path_factory, monkeypatch):
    """Ray makes a folder for every trainable, in the home folder unless told otherwise."""
    folder = tmp_path_factory.mktemp("ray")
    monkeypatch.setattr(ray_trainable, "DEFAULT_STORAGE_PATH", str(folder))


@pytest.fixture(autouse=True)
def _one_thread():
    """One thread, as in an actor of one CPU: several wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def write_fashion() -> Callable[..., Path]:
    """Return a function that writes Fashion-MNIST's four files to a folder.

    They hold random images, or the first ones of `source`, as `read_fashion` returns them.
    """

    def write(
        folder: Path, *, zipped: bool = False, train: int = 200, test: int = 50, source=None
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (part, count) in enumerate((("train", train), ("t10k", test))):
            images, labels = source[number] if source else _random_images(count)
            _write(folder / f"{part}-images-idx3-ubyte", images[:count], zipped)
            _write(folder / f"{part}-labels-idx1-ubyte", labels[:count].astype(np.uint8), zipped)
        return folder

    return write


def _random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count, dtype=np.uint8)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    # Something to learn: the brightness follows the label.
    return (images * (labels[:, None, None] + 1) / 10).astype(np.uint8), labels


def _write(path: Path, array: np.ndarray, zipped: bool) -> None:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    else:
        path.write_bytes(header + array.tobytes())
