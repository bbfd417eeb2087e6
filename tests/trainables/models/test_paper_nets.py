"""The nets of the paper: their sizes, layers, shapes and how their weights are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables import PAPER_TASKS, find
from trainables.models.mlp_cnn import Standardise, glorot_uniform, he_normal, he_uniform
from trainables.models.resnet import basic_resnet, wide_resnet
from trainables.models.vgg import dense_vgg, plain_vgg
from tuner.rotation.layers import rotating_parameters
from tuner.rotation.target import roles

PIXELS = Standardise(120.0, 64.0)


def vgg_weights(widths, layers, channels=3, size_px=3) -> int:
    """Count a VGG's convolution weights, layer by layer."""
    total = 0
    for width, count in zip(widths, layers, strict=True):
        for _ in range(count):
            total += size_px**2 * channels * width
            channels = width
    return total


SIZES = {
    "c10-cnn1": (vgg_weights((32, 64, 128, 256), [6] * 4) + 256 * 10, 25),
    "c100-resnet": (470_192, 34),
    "tiny-cnn": (vgg_weights((32, 64, 128, 256, 512), [2] * 5) + 512 * 200, 11),
    "c10-cnn2": (
        vgg_weights((64, 128, 256, 512, 512), (2, 2, 3, 3, 3)) + 512 * 512 + 512 * 10,
        15,
    ),
    "c100-wrn": (36_518_832, 29),
    "mnist-features": (784 * 784 + 7840, 2),
    "warmup-resnet": (1_722_416, 112),
}


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_a_net_has_the_papers_weights_and_layers_and_nothing_else_to_train(name):
    with torch.device("meta"):
        net = find(name)(config={}).build_model({})
    weights, layers = SIZES[name]
    assert sum(parameter.numel() for parameter in net.parameters()) == weights
    assert len(rotating_parameters(net)) == layers == len(list(net.parameters()))


def test_sizes_are_those_that_their_authors_publish():
    # ResNet-32 .46 M and ResNet-110 1.7 M on ten classes (1512.03385), WRN-28-10 36.5 M
    # (1605.07146); no scale and shift here, and bare 1x1 shortcuts.
    assert round((SIZES["c100-resnet"][0] - 64 * 90) / 1e6, 2) == 0.46
    assert round(SIZES["warmup-resnet"][0] / 1e6, 1) == 1.7
    assert round(SIZES["c100-wrn"][0] / 1e6, 1) == 36.5


def test_the_ends_and_the_shortcuts_are_known_by_their_names():
    with torch.device("meta"):
        names = list(rotating_parameters(find("c100-resnet")(config={}).build_model({})))
    found = dict(zip(names, roles(names), strict=True))
    assert (found["conv.weight"], found["head.weight"]) == ("first", "head")
    shortcuts = {name for name, role in found.items() if role == "shortcut"}
    assert shortcuts == {"stage2_1.shortcut.weight", "stage3_1.shortcut.weight"}


def small(family: str, classes: int = 7) -> nn.Module:
    nets = {
        "plain": lambda: plain_vgg(PIXELS, 3, (4, 8), 2, classes),
        "dense": lambda: dense_vgg(PIXELS, 3, (4, 8), (1, 2), classes, size_px=14, hidden=6),
        "resnet": lambda: basic_resnet(PIXELS, 3, 8, classes, widths=(4, 8, 16)),
        "wide": lambda: wide_resnet(PIXELS, 3, 1, (8, 16), classes, dropout=0.3, first=4),
    }
    return nets[family]()


@pytest.mark.parametrize("family", ["plain", "dense", "resnet", "wide"])
def test_a_net_answers_bytes_with_a_number_for_each_class(family):
    images = torch.randint(0, 256, (5, 3, 14, 14), dtype=torch.uint8)
    net = small(family)
    assert net(images).shape == (5, 7)
    assert net.eval()(images).dtype == torch.float32


@pytest.mark.parametrize("family", ["plain", "dense", "resnet", "wide"])
def test_every_kernel_gets_a_gradient(family):
    net = small(family)
    net(torch.randint(0, 256, (5, 3, 14, 14), dtype=torch.uint8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_dropout_is_on_in_training_alone():
    torch.manual_seed(0)
    net = small("wide")
    images = torch.randint(0, 256, (5, 3, 14, 14), dtype=torch.uint8)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(
    ("start", "deviation", "bound"),
    [
        (he_uniform, math.sqrt(2 / 288), math.sqrt(6 / 288)),
        (he_normal, math.sqrt(2 / 288), 2 * math.sqrt(2 / 288) / 0.87962566),
        (glorot_uniform, math.sqrt(2 / (288 + 576)), math.sqrt(6 / (288 + 576))),
    ],
)
def test_weights_are_drawn_as_keras_draws_them(start, deviation, bound):
    torch.manual_seed(0)
    weight = start(torch.empty(64, 32, 3, 3))
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=deviation / 50)
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)


def test_a_depth_that_makes_no_whole_blocks_is_a_mistake_in_the_code():
    with pytest.raises(AssertionError, match="got depth 31"):
        basic_resnet(PIXELS, 3, 31, 10)
