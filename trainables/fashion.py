"""Fashion-MNIST: 28x28 images of ten kinds of clothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainables.base import RotationTrainable
from trainables.data import Data
from trainables.fashion_files import read_fashion
from trainables.networks import Standardise, conv_block


class FashionCnn(RotationTrainable):
    """A small convolutional net on Fashion-MNIST: 54,000 images, or fewer by `train_samples`."""

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
        # Channels last is what convolutions are fastest on: two thirds of the time on the CPU.
        return net.to(memory_format=torch.channels_last)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 54,000 / 6,000 / 10,000 images; see `read_fashion` for where they are looked for.

        Validation takes the last tenth of the training images.
        """
        (images, labels), (test_images, test_labels) = read_fashion(data_dir)
        # One channel, which convolutions want to be told of.
        inputs, targets = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)
        kept = len(inputs) - len(inputs) // 10
        test = (torch.from_numpy(test_images).unsqueeze(1), torch.from_numpy(test_labels))
        return Data((inputs[:kept], targets[:kept]), (inputs[kept:], targets[kept:]), test)
