"""The multilayer perceptron and the small convolutional network of the included trainables."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn


class Standardise(nn.Module):
    """Standardises raw pixels, so that the data can stay in bytes.

    Args:
        mean: the mean of the pixels of the training images.
        deviation: the standard deviation of these pixels.
    """

    def __init__(self, mean: float, deviation: float):
        super().__init__()
        self.mean = mean
        self.deviation = deviation

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the pixels with mean 0 and deviation 1, as float32 of the same shape."""
        return (pixels.float() - self.mean) / self.deviation


def normalised_mlp(
    pixels: Standardise, inputs: int, hidden: Sequence[int], classes: int
) -> nn.Sequential:
    """Return a batch-normalised MLP: `hidden1`, `hidden2`, ..., `head`.

    The hidden layers have no bias, because the normalisation after them would remove it.

    Args:
        pixels: the first module, which gets the raw images.
        inputs: pixels of a flattened image.
        hidden: units of each hidden layer.
        classes: outputs of the head.

    Example:
        >>> import torch
        >>> net = normalised_mlp(Standardise(4.9, 6.0), 64, (96, 64), 10)
        >>> tuple(net(torch.zeros(5, 8, 8)).shape)
        (5, 10)
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
    """Return a 3x3 convolution, max-pooling that halves height and width, normalisation and ReLU.

    Pooling comes before normalisation: with a quarter of the values to normalise, an epoch on the
    CPU is a third shorter.
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
"""Keras' default, which the authors of arXiv:1806.01603 use; torch's default is 1e-5."""


def frozen_norm(channels: int, momentum: float, *, dimensions: int = 2) -> nn.Module:
    """Return batch normalisation without scale and shift, so that only kernels are trained.

    Args:
        channels: channels of the input.
        momentum: the weight of each batch in the running statistics, in (0, 1]. Keras counts one
            minus this value.
        dimensions: 2 for images, 1 for vectors.
    """
    kind = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d
    return kind(channels, eps=KERAS_NORM_EPS, momentum=momentum, affine=False)


# The initialisers that Keras has under these names. Each changes the tensor in place.


def he_uniform(weight: Tensor) -> Tensor:
    """Draw from a uniform distribution within sqrt(6 / inputs of a unit); return the weight."""
    return nn.init.kaiming_uniform_(weight, nonlinearity="relu")


def he_normal(weight: Tensor) -> Tensor:
    """Draw from a normal of variance 2 / inputs of a unit, cut off at two deviations."""
    inputs = weight[0].numel()
    # The cut removes the tails, which reduces the deviation by this factor.
    uncut = (2 / inputs) ** 0.5 / 0.87962566103423978
    return nn.init.trunc_normal_(weight, std=uncut, a=-2 * uncut, b=2 * uncut)


def glorot_uniform(weight: Tensor) -> Tensor:
    """Draw from a uniform distribution within sqrt(6 / (inputs + outputs of a unit))."""
    return nn.init.xavier_uniform_(weight)
