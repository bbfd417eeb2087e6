"""Splits of the data sets that come without a validation or a test part."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import Data
from trainables.idx_images import Images


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
