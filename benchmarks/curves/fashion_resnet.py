"""Batch-normalised residual net on Fashion-MNIST at 28x28."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from wide_space import wide

from trainables import Data, FashionCnn
from trainables.models.mlp_cnn import Standardise
from tuner import TuningJob


class Block(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, each batch-normalised; halves the image."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(images)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(images))


class FashionResnet(FashionCnn):
    """A stem of 16 channels and residual blocks of 32 and 64, on 3,000 images."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        net = nn.Sequential(
            OrderedDict(
                pixels=Standardise(72.9, 90.0),
                stem=nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
                norm=nn.BatchNorm2d(16),
                relu=nn.ReLU(),
                block1=Block(16, 32),
                block2=Block(32, 64),
                mean=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
                head=nn.Linear(64, 10),
            )
        )
        return net.to(memory_format=torch.channels_last)

    def build_data(self, data_dir: str | None) -> Data:
        data = super().build_data(data_dir)
        assert isinstance(data.train, tuple)
        assert isinstance(data.validation, tuple)
        train, validation = data.train, data.validation
        return Data(
            (train[0][:3000], train[1][:3000]),
            (validation[0][:3000], validation[1][:3000]),
            data.test,
        )


job = TuningJob(
    name="fashion-resnet",
    trainable=FashionResnet,
    search_space=wide,
    num_trials=160,
    max_epochs=20,
    sampler="random",
    pruner="none",
)
