"""Layer-normalised MLP on Fashion-MNIST at 28x28."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from wide_space import wide

from trainables import Data, FashionCnn
from trainables.models.mlp_cnn import Standardise
from tuner import TuningJob


class FashionLayerNormMlp(FashionCnn):
    """Two hidden layers of 256 on 6,000 images."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        layers: list[nn.Module] = [Standardise(72.9, 90.0), nn.Flatten()]
        for inputs in (784, 256):
            layers += [nn.Linear(inputs, 256, bias=False), nn.LayerNorm(256), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(256, 10))

    def build_data(self, data_dir: str | None) -> Data:
        data = super().build_data(data_dir)
        assert isinstance(data.train, tuple)
        return Data((data.train[0][:6000], data.train[1][:6000]), data.validation, data.test)


job = TuningJob(
    name="fashion-layernorm-mlp",
    trainable=FashionLayerNormMlp,
    search_space=wide,
    num_trials=160,
    max_epochs=20,
    sampler="random",
    pruner="none",
)
