"""Schedules: tables of what they give, and what holds for all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.training.schedules import SCHEDULES, lr_factors, lr_spent


def slow_factors(schedule: str, total: int, warmup: int) -> list[float]:
    """The definition, a step at a time."""
    factors = []
    for step in range(total):
        if step < warmup:
            factors.append((step + 1) / warmup)
        elif schedule == "constant":
            factors.append(1.0)
        elif schedule == "cosine":
            factors.append(0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (total - warmup)))
        else:
            factors.append(0.2 ** ((step / total >= 0.5) + (step / total >= 0.75)))
    return factors


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("step", 0, [1, 1, 1, 1, 0.2, 0.2, 0.04, 0.04]),
        ("step", 2, [0.5, 1, 1, 1, 0.2, 0.2, 0.04, 0.04]),
        ("cosine", 0, [1, 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806]),
        ("cosine", 4, [0.25, 0.5, 0.75, 1, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_eight_steps(schedule, warmup, expected):
    np.testing.assert_allclose(lr_factors(schedule, 8, warmup), expected, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (7, 0), (7, 6), (1000, 1), (8440, 211)])
def test_factors_match_the_definition(schedule, total, warmup):
    factors = lr_factors(schedule, total, warmup)
    assert factors.dtype == np.float64
    np.testing.assert_allclose(factors, slow_factors(schedule, total, warmup), rtol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (3, 2), (977, 0), (8440, 211)])
def test_the_spent_share_rises_and_ends_at_exactly_one(schedule, total, warmup):
    spent = lr_spent(lr_factors(schedule, total, warmup))
    assert spent.shape == (total,)
    assert spent[0] > 0
    assert (np.diff(spent) > 0).all()
    assert spent[-1] == 1.0


def test_a_constant_schedule_spends_evenly():
    np.testing.assert_allclose(lr_spent(lr_factors("constant", 4)), [0.25, 0.5, 0.75, 1])


def test_a_cosine_has_spent_all_but_a_little_before_its_last_tenth():
    assert lr_spent(lr_factors("cosine", 1000))[899] > 0.99


def test_the_drops_and_their_size_can_be_chosen_in_any_order():
    factors = lr_factors("step", 4, step_factor=0.1, step_at=(0.75, 0.25))
    np.testing.assert_allclose(factors, [1, 0.1, 0.1, 0.01])
