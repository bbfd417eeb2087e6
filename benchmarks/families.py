"""Five small families of networks on Fashion-MNIST that train in seconds on a CPU core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.mlp_cnn import Standardise, conv_block, normalised_mlp
from trainables.models.resnet import basic_resnet
from trainables.tasks.paper import FASHION_PIXELS, SmallFashion
from trainables.training.data import Data

TRAIN = 4000


class Small(SmallFashion):
    """A network on 4,000 training, 2,000 validation and 10,000 test images of 14x14, 12 epochs."""

    epochs = 12
    defaults: Mapping[str, Any] = {"train_samples": TRAIN}
    evaluation_batch = 500

    def build_data(self, data_dir: str | None) -> Data:
        """Return the images as standardised floats."""
        data = super().build_data(data_dir)
        return Data(_floats(data.train), _floats(data.validation), _floats(data.test))

    def augment(self, inputs: Tensor) -> Tensor:
        return inputs


def _floats(split: Any) -> tuple[Tensor, Tensor]:
    pixels, labels = split
    return Standardise(*FASHION_PIXELS)(torch.as_tensor(pixels)), torch.as_tensor(labels)


_AS_IS = (0.0, 1.0)


class Cnn(Small):
    """Batch-normalised convolutions of 16, 32 and 64 channels."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        blocks = [conv_block(1, 16), conv_block(16, 32), conv_block(32, 64)]
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64, 10))


class Resnet(Small):
    """ResNet-8 of 12 to 48 channels, on halved images."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return basic_resnet(nn.AvgPool2d(2), 1, 8, 10, widths=(12, 24, 48))


class BatchNormMlp(Small):
    """Two batch-normalised hidden layers of 128."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return normalised_mlp(Standardise(*_AS_IS), 196, (128, 128), 10)


class PlainMlp(Small):
    """Two hidden layers of 128 without normalisation."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        hidden = [nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


class Transformer(Small):
    """One layer-normalised attention block of width 48 over the image's 14 rows."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return _Rows()


class _Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(14, 48)
        self.place = nn.Parameter(0.02 * torch.randn(14, 48))
        self.block = nn.TransformerEncoderLayer(
            48, 4, 96, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.embed(images.squeeze(1)) + self.place
        logits: Tensor = self.head(self.norm(self.block(rows)).mean(dim=1))
        return logits


FAMILIES: Mapping[str, type[Small]] = {
    "cnn": Cnn,
    "resnet": Resnet,
    "bn-mlp": BatchNormMlp,
    "plain-mlp": PlainMlp,
    "transformer": Transformer,
}
