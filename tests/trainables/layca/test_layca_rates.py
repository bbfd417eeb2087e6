"""How fast each layer turns: the schedule, the groups, the layers' multipliers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, StepLR
from turned_net import RHO, kernels, net, step

from trainables import Layca, alpha_rates


def angles(rhos: list[float]) -> object:
    return pytest.approx([math.atan(rho) for rho in rhos], rel=3e-6, abs=2e-8)


@pytest.mark.parametrize(
    ("alpha", "layers", "expected"),
    [
        (0, 3, [1, 1, 1]),
        (0.6, 1, [1]),
        (-0.6, 1, [1]),
        (0.5, 2, [0.5**5, 1]),
        (-0.5, 2, [1, 0.5**5]),
        (0.2, 6, [0.8**5, 0.8**4, 0.8**3, 0.8**2, 0.8, 1]),
        (-0.2, 6, [1, 0.8, 0.8**2, 0.8**3, 0.8**4, 0.8**5]),
    ],
)
def test_the_papers_rule_slows_the_first_or_the_last_layers(alpha, layers, expected):
    assert alpha_rates(alpha, layers) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("layer_rates", "expected"),
    [
        (None, [1, 1]),
        ([0.5, 2], [0.5, 2]),
        (alpha_rates(0.5, 2), [0.5**5, 1]),
        ((0, 1), [0, 1]),
        ({"4.*": 0.5}, [1, 0.5]),
        ({"0.weight": 0, "*": 3}, [0, 3]),
    ],
)
def test_each_layer_has_a_rate_of_its_own(layer_rates, expected):
    model = net()
    base = SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    optimizer = Layca(base, rate=RHO, layer_rates=layer_rates)
    for seed in range(3):
        assert step(model, optimizer, seed) == angles([RHO * times for times in expected])


def test_a_layer_held_fixed_does_not_change_at_all():
    model = net()
    optimizer = Layca(SGD(model.parameters(), lr=0.1), rate=RHO, layer_rates=[0, 1])
    before = kernels(model)[0].detach().clone()
    step(model, optimizer, 0)
    assert torch.equal(kernels(model)[0], before)


def test_without_a_rate_the_learning_rate_is_rho():
    model = net()
    optimizer = Layca(SGD(model.parameters(), lr=0.2))
    assert step(model, optimizer, 0) == angles([0.2, 0.2])
    optimizer.param_groups[0]["lr"] = 0.01
    assert step(model, optimizer, 1) == angles([0.01, 0.01])
    optimizer.param_groups[0]["lr"] = 0.0
    assert step(model, optimizer, 2) == angles([0, 0])


@pytest.mark.parametrize("tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: StepLR(optimizer, 1, gamma=0.5),
        lambda optimizer: CosineAnnealingLR(optimizer, 4),
        lambda optimizer: LinearLR(optimizer, 0.25, total_iters=3),
        lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=8),
    ],
    ids=["step", "cosine", "warmup", "one-cycle"],
)
@pytest.mark.parametrize("on", ["wrapper", "base"])
def test_a_scheduler_of_the_learning_rate_scales_rho(schedule, on, tensor):
    model = net()
    lr = torch.tensor(0.1) if tensor else 0.1
    # Torch takes a tensor for the lr only where its loops over parameters can do without it.
    base = Adam(model.parameters(), lr=lr, foreach=False)
    optimizer = Layca(base, rate=RHO)
    scheduler = schedule(optimizer if on == "wrapper" else base)
    for seed in range(4):
        rho = RHO * float(optimizer.param_groups[0]["lr"]) / 0.1
        assert step(model, optimizer, seed) == angles([rho, rho])
        scheduler.step()


def test_a_scheduler_from_before_the_wrapper_counts_from_its_own_start():
    model = net()
    base = SGD(model.parameters(), lr=0.1)
    LinearLR(base, 0.25)
    assert step(model, Layca(base, rate=RHO), 0) == angles([RHO / 4] * 2)


def test_groups_have_schedules_of_their_own():
    model = net()
    conv, dense = model[0], model[4]
    optimizer = Layca(
        SGD([{"params": conv.parameters()}, {"params": dense.parameters(), "lr": 0.5}], lr=0.1),
        rate=RHO,
        layer_rates=[1, 2],
    )
    assert step(model, optimizer, 0) == angles([RHO, 2 * RHO])
    optimizer.param_groups[1]["lr"] = 0.25
    assert step(model, optimizer, 1) == angles([RHO, RHO])


@pytest.mark.parametrize("added_to", ["wrapper", "base"])
def test_a_group_may_be_added_later(added_to):
    model = net()
    base = SGD(list(model[0].named_parameters()), lr=0.1)
    optimizer = Layca(base, rate=RHO, layer_rates={"weight": 0.5})
    assert step(model, optimizer, 0) == angles([RHO / 2, 0])
    group = {"params": [("head.weight", model[4].weight)], "lr": 3.0}
    (optimizer if added_to == "wrapper" else base).add_param_group(group)
    assert step(model, optimizer, 1) == angles([RHO / 2, RHO])
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    assert optimizer.defaults is base.defaults
