"""Layca turns each layer by exactly atan(rho), in the direction of its base, and keeps norms."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from turned_net import RHO, array, backward, kernels, loss_of, net, others, step

from tests import reference
from trainables import Layca


class SignDescent(Optimizer):
    """An optimizer that torch does not have: the sign of the momentum, with weight decay."""

    def __init__(self, parameters, lr, beta=0.9, weight_decay=0.1):
        super().__init__(parameters, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("m", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * momentum.sign())


BASES = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "decayed": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "tiny-lr": lambda p: SGD(p, lr=1e-12, momentum=0.9),
    "foreach": lambda p: SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "fused": lambda p: SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: Adam(p, lr=1e-3),
    "amsgrad": lambda p: Adam(p, lr=1e-3, amsgrad=True),
    "adamw": lambda p: AdamW(p, lr=1e-3, weight_decay=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=1e-3, momentum=0.9),
    "adagrad": lambda p: Adagrad(p, lr=0.01),
    "third-party": lambda p: SignDescent(p, lr=0.01),
}


@pytest.fixture(params=BASES)
def build(request):
    return BASES[request.param]


@pytest.mark.parametrize("rho", [1e-3, RHO, 1.0, 3.0])
def test_every_step_turns_every_layer_by_the_same_angle(build, rho):
    model = net()
    optimizer = Layca(build(model.parameters()), rate=rho)
    for seed in range(5):
        angles = step(model, optimizer, seed)
        # What float32 weights can hold: 2^-24 of each, in every direction.
        assert angles == pytest.approx([math.atan(rho)] * 2, rel=2e-6, abs=1e-7)


# The others decay the weights themselves, so that their own step is another than Layca's.
@pytest.mark.parametrize("name", sorted(BASES.keys() - {"decayed", "adamw", "third-party"}))
def test_the_direction_is_the_base_optimizers_own(name):
    model = net()
    plain = copy.deepcopy(model).double()
    optimizer = Layca(BASES[name](model.parameters()), rate=RHO)
    base = BASES[name](plain.parameters())
    for seed in range(4):
        backward(model, optimizer, seed)
        for theirs, ours in zip(plain.parameters(), model.parameters(), strict=True):
            theirs.data = ours.detach().double()
            theirs.grad = ours.grad.double()
        before = [array(kernel) for kernel in kernels(plain)]
        base.step()
        steps = [then - array(now) for now, then in zip(kernels(plain), before, strict=True)]
        if name == "tiny-lr":  # lost beside the weights even in float64: momentum has the same
            steps = [array(base.state[kernel]["momentum_buffer"]) for kernel in kernels(plain)]
        optimizer.step()
        for kernel, weight, taken in zip(kernels(model), before, steps, strict=True):
            expected = reference.layca(weight, taken, RHO)
            np.testing.assert_allclose(array(kernel), expected, atol=1e-6, rtol=2e-6)


def test_the_other_parameters_train_as_without_layca_and_freeze_when_told_to(build):
    model = net()
    plain, frozen = copy.deepcopy(model), copy.deepcopy(model)
    for trained, optimizer in (
        (model, Layca(build(model.parameters()), rate=RHO)),
        (plain, build(plain.parameters())),
        (frozen, Layca(build(frozen.parameters()), rate=RHO, others="freeze")),
    ):
        backward(trained, optimizer, 0)
        gradients = [parameter.grad for parameter in trained.parameters()]
        optimizer.step()
        assert all(p.grad is g for p, g in zip(trained.parameters(), gradients, strict=True))
    initial = net()
    for turned, expected in zip(others(model), others(plain), strict=True):
        torch.testing.assert_close(turned, expected, rtol=0, atol=0)
    for held, first in zip(others(frozen), others(initial), strict=True):
        assert torch.equal(held, first)
    for turned, same in zip(kernels(model), kernels(frozen), strict=True):
        assert torch.equal(turned, same)


@pytest.mark.parametrize("rho", [pytest.param(3**-5, marks=pytest.mark.soak), 3**-1])
def test_norms_stay_within_a_millionth_over_10_000_steps(rho):
    weight = nn.Parameter(torch.randn(40, 50, generator=torch.Generator().manual_seed(0)))
    optimizer = Layca(SGD([weight], lr=0.1, momentum=0.9), rate=rho)
    initial = array(weight)
    generator = torch.Generator().manual_seed(1)
    for number in range(10_000):
        weight.grad = torch.randn(40, 50, generator=generator)
        optimizer.step()
        if number % 100 == 0:
            assert reference.norm_ratio(array(weight), initial) == pytest.approx(1, abs=1e-6)
    assert reference.norm_ratio(array(weight), initial) == pytest.approx(1, abs=1e-6)


def test_a_large_layer_turns_as_exactly_as_a_small_one():
    # One float32 sum over so many elements would be wrong by 3e-5.
    weight = nn.Parameter(torch.randn(1024, 2300, generator=torch.Generator().manual_seed(0)))
    weight.grad = torch.rand(1024, 2300, generator=torch.Generator().manual_seed(1))
    before = array(weight)
    Layca(SGD([weight], lr=0.1), rate=RHO).step()
    assert reference.turn(array(weight), before) == pytest.approx(math.atan(RHO), rel=2e-6)
    assert reference.norm_ratio(array(weight), before) == pytest.approx(1, abs=1e-6)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 6)),
    seed=st.integers(0, 1000),
    log_rho=st.floats(-3, 1),
    weight_scale=st.sampled_from([1e-6, 1.0, 1e6]),
    step_scale=st.sampled_from([1e-12, 1.0, 1e6]),
)
def test_any_layer_is_turned_as_the_formulas_say(shape, seed, log_rho, weight_scale, step_scale):
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
    weight.data *= weight_scale
    weight.grad = torch.randn(shape, generator=generator, dtype=torch.float64) * step_scale
    before = array(weight)
    expected = reference.layca(before, array(weight.grad), 10**log_rho)
    Layca(SGD([weight], lr=1.0), rate=10**log_rho).step()
    np.testing.assert_allclose(array(weight), expected, rtol=1e-6, atol=1e-6 * weight_scale)


def test_a_zero_gradient_leaves_a_layer_exactly_as_it_is():
    model = net()
    optimizer = Layca(SGD(model.parameters(), lr=0.1, weight_decay=0.1), rate=RHO)
    loss_of(model, 0).backward()
    conv, dense = kernels(model)
    conv.grad.zero_()
    before, other = conv.detach().clone(), dense.detach().clone()
    optimizer.step()
    assert torch.equal(conv, before)
    assert not torch.equal(dense, other)


def test_a_step_along_the_weights_leaves_a_layer_exactly_as_it_is():
    weight = nn.Parameter(torch.randn(4, 5))
    weight.grad = 0.3 * weight.detach()
    before = weight.detach().clone()
    Layca(SGD([weight], lr=0.1), rate=RHO).step()
    assert torch.equal(weight, before)


def test_a_gradient_that_is_not_finite_is_not_hidden():
    weight = nn.Parameter(torch.randn(4, 5))
    weight.grad = torch.full((4, 5), math.nan)
    Layca(SGD([weight], lr=0.1), rate=RHO).step()
    assert weight.isnan().all()


def test_layers_without_a_gradient_are_skipped():
    model = net()
    optimizer = Layca(SGD(model.parameters(), lr=0.1, momentum=0.9), rate=RHO)
    for seed in range(4):
        backward(model, optimizer, seed)
        skipped = kernels(model)[seed % 2]
        skipped.grad = None
        before = [array(kernel) for kernel in kernels(model)]
        optimizer.step()
        for kernel, then in zip(kernels(model), before, strict=True):
            expected = 0.0 if kernel is skipped else math.atan(RHO)
            assert reference.turn(array(kernel), then) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("others_are", ["train", "freeze"])
def test_a_layer_that_starts_at_zero_is_treated_as_the_others_are(others_are):
    model = net()
    dense = kernels(model)[1]
    nn.init.zeros_(dense)
    optimizer = Layca(SGD(model.parameters(), lr=0.1), rate=RHO, others=others_are)
    for seed in range(3):
        before = dense.detach().clone()
        backward(model, optimizer, seed)
        optimizer.step()
        expected = before - 0.1 * dense.grad if others_are == "train" else before
        torch.testing.assert_close(dense, expected)


def test_a_channels_last_kernel_keeps_its_layout():
    model, same = net(), net().to(memory_format=torch.channels_last)
    for trained in (model, same):
        optimizer = Layca(SGD(trained.parameters(), lr=0.1, momentum=0.9), rate=RHO)
        for seed in range(3):
            angles = step(trained, optimizer, seed)
            assert angles == pytest.approx([math.atan(RHO)] * 2, rel=2e-6)
    assert (
        kernels(same)[0].stride() == net().to(memory_format=torch.channels_last)[0].weight.stride()
    )
    torch.testing.assert_close(kernels(model)[0], kernels(same)[0])


@pytest.mark.parametrize(
    ("dtype", "angle_error", "norm_error"),
    [(torch.bfloat16, 5e-3, 1e-3), (torch.float16, 1e-3, 1e-4)],
)
def test_half_precision_turns_as_exactly_as_its_rounding_lets_it(dtype, angle_error, norm_error):
    weight = nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(dtype))
    optimizer = Layca(SGD([weight], lr=0.1, momentum=0.9), rate=RHO)
    initial = array(weight)
    for seed in range(1, 51):
        generator = torch.Generator().manual_seed(seed)
        weight.grad = torch.randn(64, 64, generator=generator).to(dtype)
        before = array(weight)
        optimizer.step()
        angle = reference.turn(array(weight), before)
        assert angle == pytest.approx(math.atan(RHO), rel=angle_error)
        assert reference.norm_ratio(array(weight), initial) == pytest.approx(1, abs=norm_error)
