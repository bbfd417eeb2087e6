"""The two VGG-like networks of arXiv:1806.01603, without biases and without scale and shift."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from trainables.models.mlp_cnn import Standardise, frozen_norm, he_normal, he_uniform


def _stages(
    channels: int,
    widths: Sequence[int],
    layers: Sequence[int],
    block: Callable[[int, int], OrderedDict[str, nn.Module]],
) -> OrderedDict[str, nn.Module]:
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (width, count) in enumerate(zip(widths, layers, strict=True), start=1):
        for layer in range(1, count + 1):
            found[f"stage{stage}_{layer}"] = nn.Sequential(block(channels, width))
            channels = width
        found[f"pool{stage}"] = nn.MaxPool2d(2)
    return found


def _conv(inputs: int, outputs: int, start: Callable[[Tensor], Tensor]) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    start(conv.weight)
    return conv


def _linear(inputs: int, outputs: int, start: Callable[[Tensor], Tensor]) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=False)
    start(linear.weight)
    return linear


def plain_vgg(
    pixels: Standardise,
    channels: int,
    widths: Sequence[int],
    layers: int,
    classes: int,
    *,
    norm_momentum: float = 0.1,
) -> nn.Sequential:
    """Return a VGG of 3x3 convolutions, each followed by ReLU and then batch normalisation.

    It is the authors' `VGG` (C10-CNN1: 4 stages of 6 layers; tiny-CNN: 5 of 2). Between stages,
    max-pooling halves height and width. A global mean precedes the `head`. Rotation layers:
    `len(widths) * layers + 1`, initialised he-uniform.

    Args:
        pixels: the first module, which gets the raw images.
        channels: of the images.
        widths: channels of each stage.
        layers: convolutions of each stage.
        classes: outputs of the head.
        norm_momentum: of the batch normalisation; see `frozen_norm`.
    """

    def block(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv=_conv(inputs, outputs, he_uniform),
            relu=nn.ReLU(),
            norm=frozen_norm(outputs, norm_momentum),
        )

    net = _stages(channels, widths, [layers] * len(widths), block)
    net.popitem()  # the last stage ends with the mean instead of a pool
    net["mean"] = nn.AdaptiveAvgPool2d(1)
    net["flat"] = nn.Flatten()
    net["head"] = _linear(widths[-1], classes, he_uniform)
    return nn.Sequential(OrderedDict(pixels=pixels, **net))


def dense_vgg(
    pixels: Standardise,
    channels: int,
    widths: Sequence[int],
    layers: Sequence[int],
    classes: int,
    *,
    size_px: int,
    hidden: int,
    norm_momentum: float = 0.1,
) -> nn.Sequential:
    """Return a VGG with batch normalisation before each ReLU and a hidden dense layer.

    It is the authors' `VGG_pytorchBlogStyle` without dropout (C10-CNN2: 64 to 512 channels, 2 2 3 3
    3 layers), after http://torch.ch/blog/2015/07/30/cifar.html. Every stage ends with max-pooling,
    also the last. Rotation layers: `sum(layers) + 2`, initialised he-normal.

    Args:
        pixels: the first module, which gets the raw images.
        channels: of the images.
        widths: channels of each stage.
        layers: 3x3 convolutions of each stage.
        classes: outputs of the head.
        size_px: height and width of the images.
        hidden: units of the dense layer.
        norm_momentum: of the batch normalisation; see `frozen_norm`.
    """

    def block(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv=_conv(inputs, outputs, he_normal),
            norm=frozen_norm(outputs, norm_momentum),
            relu=nn.ReLU(),
        )

    left_px = size_px // 2 ** len(widths)
    net = _stages(channels, widths, layers, block)
    net["flat"] = nn.Flatten()
    net["dense"] = _linear(widths[-1] * left_px**2, hidden, he_normal)
    net["norm"] = frozen_norm(hidden, norm_momentum, dimensions=1)
    net["relu"] = nn.ReLU()
    net["head"] = _linear(hidden, classes, he_normal)
    return nn.Sequential(OrderedDict(pixels=pixels, **net))
