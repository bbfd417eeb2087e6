"""Stratified splits of the data sets that come without one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

from trainables.data import Data


def stratified(pixels: NDArray[np.uint8], labels: NDArray[np.int64], held_out: int) -> Data:
    """Return Data whose validation and test split hold `held_out` samples each.

    Every class has its share in each split; the choice is always the same one.
    """
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
