"""Convolutional net without normalisation on MNIST 5k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from wide_space import wide

from trainables import MnistMlp
from trainables.models.mlp_cnn import Standardise
from tuner import TuningJob


class MnistPlainCnn(MnistMlp):
    """Three strided convolutions of 16, 32 and 64 channels and a head, on 4,000 images."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        layers: list[nn.Module] = [Standardise(33.4, 78.7), nn.Unflatten(1, (1, 28))]
        for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


job = TuningJob(
    name="mnist-plain-cnn",
    trainable=MnistPlainCnn,
    search_space=wide,
    num_trials=160,
    max_epochs=20,
    sampler="random",
    pruner="none",
)
