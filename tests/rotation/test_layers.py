"""Which parameters count as layers, and under which names."""

import pytest
import torch
from torch import nn

from tuner.errors import InvalidInput
from tuner.rotation import rotating_parameters
from tuner.rotation.layers import named_parameters


class Net(nn.Module):
    """A convolution, a normalisation and a head whose submodule is called as DDP calls its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.module(self.norm(self.stem(images)).mean((2, 3)))


NAMES = ["stem.weight", "module.0.weight", "module.1.weight"]


def test_kernels_are_the_parameters_with_two_or_more_dimensions_in_model_order():
    assert list(rotating_parameters(Net())) == NAMES


def test_kernels_are_the_parameters_themselves():
    net = Net()
    assert rotating_parameters(net)["stem.weight"] is net.stem.weight


def test_frozen_layers_do_not_count():
    net = Net()
    net.stem.requires_grad_(False)
    assert list(rotating_parameters(net)) == NAMES[1:]


def test_tied_weights_count_once_under_the_first_name():
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False))
    net[2].weight = net[0].weight
    assert list(rotating_parameters(net)) == ["0.weight", "1.weight"]


def test_a_module_used_twice_counts_once():
    shared = nn.Linear(3, 3)
    assert list(rotating_parameters(nn.Sequential(shared, nn.ReLU(), shared))) == ["0.weight"]


def test_a_module_that_holds_its_parent_is_walked_once():
    net = Net()
    net.stem.add_module("parent", net)
    assert list(rotating_parameters(net)) == NAMES


def test_compiling_leaves_the_names():
    assert list(rotating_parameters(torch.compile(Net(), backend="eager"))) == NAMES


def test_compiling_a_part_leaves_the_names():
    net = Net()
    net.module = torch.compile(net.module, backend="eager")
    assert list(rotating_parameters(net)) == NAMES


def test_data_parallel_leaves_the_names():
    assert list(rotating_parameters(nn.DataParallel(Net()))) == NAMES


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_leaves_the_names():
    wrapped = nn.parallel.DistributedDataParallel(Net())
    assert list(rotating_parameters(wrapped)) == NAMES


@pytest.mark.usefixtures("process_group")
def test_compiling_the_distributed_model_leaves_the_names():
    wrapped = torch.compile(nn.parallel.DistributedDataParallel(Net()), backend="eager")
    assert list(rotating_parameters(wrapped)) == NAMES


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), NAMES),
        (("stem.weight",), NAMES[1:]),
        (("module.*",), NAMES[:1]),
        (("*.1.weight", "stem*"), NAMES[1:2]),
    ],
)
def test_exclude_leaves_out_what_its_patterns_match(exclude, left):
    assert list(rotating_parameters(Net(), exclude)) == left


def test_a_pattern_that_matches_nothing_is_refused_with_the_known_names():
    with pytest.raises(InvalidInput, match=r"'head\.\*' matches no layer; known: stem\.weight"):
        rotating_parameters(Net(), ("stem*", "head.*"))


def test_a_pattern_outside_a_list_is_refused():
    with pytest.raises(InvalidInput, match=r"use \['stem\*'\]"):
        rotating_parameters(Net(), "stem*")


@pytest.mark.parametrize(
    ("model", "exclude"),
    [(nn.BatchNorm1d(3), ()), (nn.Linear(2, 2).requires_grad_(False), ()), (Net(), ("*",))],
    ids=["one dimension only", "all frozen", "all excluded"],
)
def test_a_model_without_layers_is_refused(model, exclude):
    with pytest.raises(InvalidInput, match="two or more dimensions"):
        rotating_parameters(model, exclude)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_a_layer_without_a_shape_yet_is_refused():
    with pytest.raises(InvalidInput, match=r"'0\.weight' has none yet"):
        rotating_parameters(nn.Sequential(nn.LazyLinear(3)))


def test_all_parameters_are_named_frozen_and_one_dimensional_ones_too():
    net = Net().requires_grad_(False)
    assert [name for name, _ in named_parameters(net)] == [
        name for name, _ in net.named_parameters()
    ]
