"""Optimizers by name: the class, the keys that reach it, and its learning rate at each step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.layca.optimizer import Layca
from trainables.training.optimizers import build_optimizer
from tuner.errors import InvalidInput


def group(config: dict) -> dict:
    optimizer = build_optimizer([nn.Parameter(torch.ones(2, 2))], config)
    return {"class": type(optimizer).__name__, **optimizer.param_groups[0]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"class": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0, "nesterov": False}),
        ({"optimizer": "sgd", "nesterov": True}, {"class": "SGD", "nesterov": True}),
        ({"optimizer": "adam"}, {"class": "Adam", "lr": 1e-3, "betas": (0.9, 0.999)}),
        ({"optimizer": "adamw"}, {"class": "AdamW", "lr": 1e-3, "weight_decay": 0.01}),
        ({"optimizer": "rmsprop"}, {"class": "RMSprop", "lr": 1e-3, "alpha": 0.99}),
        ({"optimizer": "sgd", "lr": 3, "momentum": 0.5}, {"lr": 3, "momentum": 0.5}),
        ({"optimizer": "adam", "beta1": 0.8, "beta2": 0.9}, {"betas": (0.8, 0.9)}),
        ({"optimizer": "adamw", "weight_decay": 0.1}, {"weight_decay": 0.1}),
        ({"optimizer": "layca"}, {"class": "Layca", "lr": 3**-3, "momentum": 0.9}),
        ({"optimizer": "layca", "momentum": 0.0, "nesterov": True}, {"nesterov": False}),
        ({"optimizer": "layca", "weight_decay": 0.1}, {"weight_decay": 0}),
        ({"optimizer": "layca-adam"}, {"class": "Layca", "lr": 3**-5, "betas": (0.9, 0.999)}),
        ({"optimizer": "adagrad"}, {"class": "Adagrad", "lr": 1e-2, "weight_decay": 0}),
        ({"optimizer": "layca-rmsprop"}, {"class": "Layca", "lr": 3**-3, "alpha": 0.99}),
        ({"optimizer": "layca-adagrad"}, {"class": "Layca", "lr": 3**-3, "weight_decay": 0}),
        ({"optimizer": "layca-adam", "weight_decay": 0.1}, {"weight_decay": 0}),
        ({"optimizer": "rmsprop", "beta2": 0.9, "momentum": 0.5}, {"alpha": 0.9, "momentum": 0.5}),
    ],
)
def test_each_name_builds_its_optimizer_with_its_keys(config, expected):
    assert expected.items() <= group(config).items()


def test_keys_that_an_optimizer_does_not_have_are_ignored():
    assert group({"optimizer": "adam", "momentum": 0.5, "nesterov": True})["class"] == "Adam"


def test_nesterov_without_momentum_is_plain_gradient_descent():
    assert not group({"nesterov": True, "momentum": 0.0})["nesterov"]


def test_frozen_parameters_are_left_out():
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = build_optimizer([frozen, nn.Parameter(torch.ones(2))], {})
    assert len(optimizer.param_groups[0]["params"]) == 1


def test_rates_by_name_come_on_top_of_those_by_place():
    first, second = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    named = [("first.weight", first), ("first.bias", nn.Parameter(torch.ones(2)))]
    config = {"optimizer": "layca", "alpha": 0.5, "layer_rates": {"first*": 3, "second*": 2}}
    optimizer = build_optimizer([*named, ("second.weight", second)], config)
    assert isinstance(optimizer, Layca)
    assert optimizer.multiplier(first) == pytest.approx(3 * 0.5**5)
    assert optimizer.multiplier(second) == 2


def test_rates_by_name_without_names_are_refused():
    kernel = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(InvalidInput, match="needs layers with names"):
        build_optimizer([kernel], {"optimizer": "layca", "layer_rates": {"*": 2}})
