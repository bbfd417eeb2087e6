"""Layers that the included trainables share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn


class Standardise(nn.Module):
    """Turns raw pixels into numbers of mean 0 and deviation 1, so that data can stay in bytes."""

    def __init__(self, mean: float, deviation: float):
        super().__init__()
        self.mean = mean
        self.deviation = deviation

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape."""
        return (pixels.float() - self.mean) / self.deviation


def normalised_mlp(
    pixels: Standardise, inputs: int, hidden: Sequence[int], classes: int
) -> nn.Sequential:
    """Return a batch-normalised MLP over flattened images: `hidden1`, `hidden2`, ..., `head`.

    The hidden layers have no bias, which the normalisation after them would undo.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(pixels=pixels, flat=nn.Flatten())
    for number, outputs in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(inputs, outputs, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm1d(outputs)
        layers[f"relu{number}"] = nn.ReLU()
        inputs = outputs
    layers["head"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a batch-normalised 3x3 convolution that halves height and width by max-pooling.

    Pooling comes first, since normalising a quarter of the values makes an epoch on the CPU a
    third shorter.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            pool=nn.MaxPool2d(2),
            norm=nn.BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
    )
