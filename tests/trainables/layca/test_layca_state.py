"""A run with Layca is saved, copied and resumed bit by bit."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from turned_net import RHO, array, backward, kernels, net, step, weights

from trainables import Layca


def sgd(model: nn.Module, lr: float = 0.1) -> Layca:
    return Layca(SGD(model.parameters(), lr=lr, momentum=0.9), rate=RHO, layer_rates=[1, 0.5])


def adam(model: nn.Module, lr: float = 0.1) -> Layca:
    return Layca(Adam(model.parameters(), lr=lr))


def equal(model: nn.Module, other: nn.Module) -> bool:
    pairs = zip(weights(model), weights(other), strict=True)
    return all(np.array_equal(one, same) for one, same in pairs)


@pytest.mark.parametrize("build", [sgd, adam])
def test_a_resumed_run_is_the_unbroken_one(build, tmp_path):
    model = net()
    optimizer = build(model)
    for seed in range(3):
        step(model, optimizer, seed)
    optimizer.param_groups[0]["lr"] = 0.03
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "saved.pt")

    resumed = net(seed=1)
    loaded = torch.load(tmp_path / "saved.pt", weights_only=True)
    taken_up = build(resumed, lr=0.7)
    # Steps with other weights beforehand, whose norms must give way.
    step(resumed, taken_up, 0)
    resumed.load_state_dict(loaded["model"])
    taken_up.load_state_dict(loaded["optimizer"])
    for seed in range(3, 6):
        assert step(model, optimizer, seed) == step(resumed, taken_up, seed)
    assert equal(model, resumed)


def test_norms_are_those_of_the_first_step_and_not_of_construction():
    model = net()
    optimizer = sgd(model)
    model.load_state_dict(net(seed=1).state_dict())
    expected = [np.linalg.norm(array(kernel)) for kernel in kernels(model)]
    step(model, optimizer, 0)
    norms = [np.linalg.norm(array(kernel)) for kernel in kernels(model)]
    assert norms == pytest.approx(expected, rel=1e-6)


def test_a_layer_that_started_at_zero_is_remembered_in_a_checkpoint():
    model, resumed = net(), net(seed=1)
    nn.init.zeros_(kernels(model)[1])
    optimizer, taken_up = sgd(model), sgd(resumed)
    backward(model, optimizer, 0)
    optimizer.step()
    resumed.load_state_dict(model.state_dict())
    taken_up.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert step(model, optimizer, 1) == step(resumed, taken_up, 1)
    assert equal(model, resumed)


def test_the_state_of_a_plain_base_can_be_taken_up():
    model = net()
    base = SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, base, 0)
    resumed = copy.deepcopy(model)
    optimizer = sgd(resumed, lr=0.7)
    optimizer.load_state_dict(base.state_dict())
    assert step(resumed, optimizer, 1) == pytest.approx(
        [np.arctan(RHO), np.arctan(RHO / 2)], rel=3e-6
    )


def test_a_tensor_for_the_learning_rate_survives_a_checkpoint():
    model = net()
    runs = []
    for _ in range(2):
        runs.append(Layca(Adam(model.parameters(), lr=torch.tensor(0.1)), rate=RHO))
    step(model, runs[0], 0)
    runs[0].param_groups[0]["lr"].fill_(0.05)
    runs[1].load_state_dict(copy.deepcopy(runs[0].state_dict()))
    assert step(model, runs[1], 1) == pytest.approx([np.arctan(RHO / 2)] * 2, rel=3e-6)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_a_copy_goes_on_as_the_original_does(duplicate):
    model = net()
    optimizer = sgd(model)
    step(model, optimizer, 0)
    twin, its_own = duplicate((model, optimizer))
    assert its_own.param_groups is its_own.base.param_groups
    for seed in (1, 2):
        assert step(model, optimizer, seed) == step(twin, its_own, seed)
    assert equal(model, twin)


def test_zero_grad_clears_the_gradients_and_repr_names_the_wrapper():
    model = net()
    optimizer = sgd(model)
    step(model, optimizer, 0)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert repr(optimizer).startswith("Layca (")
