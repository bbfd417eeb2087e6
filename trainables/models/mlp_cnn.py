"""The multilayer perceptron and the small convolutional network of the included trainables."""

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


KERAS_NORM_EPS = 1e-3
"""Keras' default, which the authors of arXiv:1806.01603 keep; torch's own is 1e-5."""


def frozen_norm(channels: int, momentum: float, *, dimensions: int = 2) -> nn.Module:
    """Return a batch normalisation without scale and shift, so that only kernels are trained.

    `momentum` is the share of each batch in the running statistics, in (0, 1]; Keras counts the
    other share.
    """
    kind = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d
    return kind(channels, eps=KERAS_NORM_EPS, momentum=momentum, affine=False)


# What Keras draws under these names; each changes the tensor in place and returns it.


def he_uniform(weight: Tensor) -> Tensor:
    """Draw evenly from within sqrt(6 / inputs of a unit)."""
    return nn.init.kaiming_uniform_(weight, nonlinearity="relu")


def he_normal(weight: Tensor) -> Tensor:
    """Draw with variance 2 / inputs of a unit, from a normal cut off at two deviations."""
    inputs = weight[0].numel()
    # The cut takes off the tails, and this much of the deviation with them.
    uncut = (2 / inputs) ** 0.5 / 0.87962566103423978
    return nn.init.trunc_normal_(weight, std=uncut, a=-2 * uncut, b=2 * uncut)


def glorot_uniform(weight: Tensor) -> Tensor:
    """Draw evenly from within sqrt(6 / (inputs + outputs of a unit))."""
    return nn.init.xavier_uniform_(weight)
