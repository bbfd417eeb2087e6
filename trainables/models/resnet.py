"""The residual networks of arXiv:1806.01603, without biases and without scale and shift."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.mlp_cnn import Standardise, frozen_norm, glorot_uniform, he_normal

Start = Callable[[Tensor], Tensor]


def _conv(inputs: int, outputs: int, size_px: int, stride: int, start: Start) -> nn.Conv2d:
    # Keras pads a strided convolution only at the right and bottom; here all sides are padded.
    conv = nn.Conv2d(inputs, outputs, size_px, stride, padding=size_px // 2, bias=False)
    start(conv.weight)
    return conv


class BasicBlock(nn.Module):
    """The block of ResNet v1: two normalised 3x3 convolutions and a shortcut.

    The last ReLU comes after the sum. The shortcut is the identity, or a 1x1 convolution without
    normalisation if the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm_momentum: float):
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride, he_normal)
        self.norm1 = frozen_norm(outputs, norm_momentum)
        self.conv2 = _conv(outputs, outputs, 3, 1, he_normal)
        self.norm2 = frozen_norm(outputs, norm_momentum)
        self.shortcut = None if stride == 1 else _conv(inputs, outputs, 1, stride, he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, outputs, height / stride, width / stride)."""
        left = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        right = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(left + right)


class WideBlock(nn.Module):
    """The block of a wide ResNet: normalisation, ReLU and 3x3 convolution, twice (1605.07146).

    Dropout comes before the second convolution. The shortcut takes the input before normalisation;
    it is the identity, or a 1x1 convolution if the shape changes.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, dropout: float, norm_momentum: float
    ):
        super().__init__()
        self.norm1 = frozen_norm(inputs, norm_momentum)
        self.conv1 = _conv(inputs, outputs, 3, stride, glorot_uniform)
        self.norm2 = frozen_norm(outputs, norm_momentum)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv(outputs, outputs, 3, 1, glorot_uniform)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else _conv(inputs, outputs, 1, stride, glorot_uniform)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, outputs, height / stride, width / stride)."""
        left = self.conv1(functional.relu(self.norm1(x)))
        left = self.conv2(self.dropout(functional.relu(self.norm2(left))))
        right = x if self.shortcut is None else self.shortcut(x)
        return torch.add(left, right)


def basic_resnet(
    pixels: Standardise,
    channels: int,
    depth: int,
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    norm_momentum: float = 0.1,
) -> nn.Sequential:
    """Return a ResNet v1 for small images, of 6n + 2 layers (1512.03385, section 4.2).

    It is the authors' `resnet_v1` (C100-resnet: depth 32; warmup: depth 110). Every stage after the
    first halves height and width. Rotation layers: `depth`, and one shortcut for each halving. All
    are initialised he-normal.

    Args:
        pixels: the first module, which gets the raw images.
        channels: of the images.
        depth: layers, 2 more than a multiple of twice the number of stages.
        classes: outputs of the head.
        widths: channels of each stage.
        norm_momentum: of the batch normalisation; see `frozen_norm`.
    """
    blocks, rest = divmod(depth - 2, 2 * len(widths))
    assert rest == 0, f"a ResNet of {len(widths)} stages has 2 layers a block, got depth {depth}"
    net: OrderedDict[str, nn.Module] = OrderedDict(
        pixels=pixels,
        conv=_conv(channels, widths[0], 3, 1, he_normal),
        norm=frozen_norm(widths[0], norm_momentum),
        relu=nn.ReLU(),
    )
    inputs = widths[0]
    for stage, width in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            net[f"stage{stage}_{block}"] = BasicBlock(inputs, width, stride, norm_momentum)
            inputs = width
    return _with_head(net, inputs, classes, he_normal)


def wide_resnet(
    pixels: Standardise,
    channels: int,
    blocks: int,
    widths: Sequence[int],
    classes: int,
    *,
    dropout: float,
    first: int = 16,
    norm_momentum: float = 0.1,
) -> nn.Sequential:
    """Return a wide ResNet (Zagoruyko and Komodakis, 1605.07146).

    Its authors count a depth of `2 * blocks * stages + 4`. Every stage after the first halves
    height and width. Rotation layers: 2, the convolutions of the blocks, and a shortcut for each
    change of shape. All are initialised glorot-uniform. C100-WRN has 4 blocks, widths 160, 320 and
    640, and dropout .3.

    Args:
        pixels: the first module, which gets the raw images.
        channels: of the images.
        blocks: of each stage.
        widths: channels of each stage.
        classes: outputs of the head.
        dropout: share of the values that each block drops in training.
        first: channels of the first convolution.
        norm_momentum: of the batch normalisation; see `frozen_norm`.
    """
    net: OrderedDict[str, nn.Module] = OrderedDict(
        pixels=pixels, conv=_conv(channels, first, 3, 1, glorot_uniform)
    )
    inputs = first
    for stage, width in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            net[f"stage{stage}_{block}"] = WideBlock(inputs, width, stride, dropout, norm_momentum)
            inputs = width
    net["norm"] = frozen_norm(inputs, norm_momentum)
    net["relu"] = nn.ReLU()
    return _with_head(net, inputs, classes, glorot_uniform)


def _with_head(
    net: OrderedDict[str, nn.Module], inputs: int, classes: int, start: Start
) -> nn.Sequential:
    net["mean"] = nn.AdaptiveAvgPool2d(1)
    net["flat"] = nn.Flatten()
    head = nn.Linear(inputs, classes, bias=False)
    start(head.weight)
    net["head"] = head
    return nn.Sequential(net)
