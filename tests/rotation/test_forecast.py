"""The forecast of the final rotation: right where theory is, and within bounds everywhere."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rotation.one_layer import (
    MAX_EPOCHS,
    cosine_clock,
    curve_of,
    only,
    power,
    steady_clock,
)
from tuner.rotation import RotationCurve, forecast

# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


def reference(clock: Sequence[float], distances: Sequence[float]) -> tuple[float, float, float]:
    """Slow truth: the formulae of docs/forecast.md for a known schedule, one report an epoch.

    `clock` rises within (0, 1), `distances` are within 1e-6 and .998.
    """
    s = [-math.log(1 - distance) for distance in distances]
    now, s_now = clock[-1], s[-1]

    def s_at(time: float) -> float:
        for index in range(len(clock) - 1):
            if clock[index] <= time < clock[index + 1]:
                part = math.log(time / clock[index]) / math.log(clock[index + 1] / clock[index])
                return s[index] * (s[index + 1] / s[index]) ** part
        raise AssertionError(time)

    def bounded(p: float) -> float:
        return min(max(p, 0.0), 4.0)

    seen = min(math.log2(now / clock[0]), 1.0)
    if clock[0] <= now / 2:
        p = bounded(math.log2(s_now / s_at(now / 2)))
    elif seen > 0:
        p = seen * bounded(math.log(s_now / s[0]) / math.log(now / clock[0])) + (1 - seen)
    else:
        p = 1.0
    ahead = math.log(1 / now)
    x = p * ahead
    growth = {
        "low": x / (1 + 0.543 * x) - (0.188 * min(s_now, 2) ** 0.5 + 0.049 * (1 - seen)) * ahead,
        "mid": x / (1 + 0.22 * x),
        "high": x / (1 + 0.046 * x) + (0.051 + 0.084 * ahead + 0.408 * (1 - seen)) * ahead,
    }
    growth["low"] = max(growth["low"], -0.25 * ahead)
    if clock[0] <= now / 4 and p > 1 + 1e-6:
        before = bounded(math.log2(s_at(now / 2) / s_at(now / 4)))
        k = 2 * math.log(2**p - 1)
        of_exponential = p - math.log2(1 + math.exp(k / 4))
        speeding = min(max((p - max(before, 1)) / max(of_exponential, 1e-6), 0), 1)
        exponential = math.log(math.expm1(min(k / now, 50)) / math.expm1(k))
        growth["high"] += speeding * max(exponential - x, 0)
    spent_last = now - (clock[-2] if len(clock) > 1 else 0)
    rate = (1 - now) / (MAX_EPOCHS - len(clock)) / spent_last
    rate = min(max(math.log(rate), -5), 5)
    factor = {
        "low": math.exp(0.5 * min(rate, 0)),
        "mid": math.exp(0.2 * min(rate, 0)),
        "high": math.exp(0.2 * max(rate, 0)),
    }
    ends = [
        1 - (1 - distances[-1]) * math.exp(-s_now * math.expm1(min(growth[end], 50)) * factor[end])
        for end in ("low", "mid", "high")
    ]
    wander = (0.001 + 0.06 * distances[-1] ** 3) * (1 - now) ** 0.25
    return max(min(ends) - wander, 0), ends[1], max(ends) + wander


def test_nothing_is_forecast_from_an_empty_curve():
    assert forecast(RotationCurve(("layer",), 10)) is None


def test_nothing_is_forecast_without_layers():
    assert forecast(RotationCurve((), 10).append(1, {})) is None


def test_nothing_is_forecast_from_unknown_rotation():
    assert forecast(curve_of([math.nan, math.nan])) is None


@UNHURRIED
@given(
    st.lists(st.tuples(st.floats(0.01, 0.09), st.floats(0, 0.5)), min_size=1, max_size=10),
)
def test_the_forecast_matches_the_reference(steps):
    clock = np.cumsum([step[0] for step in steps]).tolist()
    distances = (1 - np.exp(-1e-5 - np.cumsum([step[1] for step in steps]))).tolist()
    assert only(curve_of(distances, clock)) == pytest.approx(reference(clock, distances), abs=1e-9)


@pytest.mark.parametrize("rate", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("epochs", [1, 2, 5, 13, 19])
@pytest.mark.parametrize("schedule", [steady_clock, cosine_clock])
@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.0])
def test_a_power_of_the_clock_ends_inside_the_interval(rate, epochs, schedule, exponent):
    distances = power(rate, exponent, schedule(epochs))
    low, _, high = only(curve_of(distances, schedule(epochs)))
    assert low <= 1 - math.exp(-rate) <= high


@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.0, 1.5])
def test_the_forecast_of_a_power_of_the_clock_gets_ever_better(exponent):
    clock = steady_clock(MAX_EPOCHS - 1)
    distances = power(0.8, exponent, clock)
    errors = [
        abs(only(curve_of(distances[:epochs], clock[:epochs]))[1] - (1 - math.exp(-0.8)))
        for epochs in (4, 6, 10, 15, 19)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("momentum_free_rate", [0.003, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_layca_without_momentum_ends_inside_the_interval(momentum_free_rate, schedule):
    """Its exact form is `cos = prod (1 + rho_t^2)^(-1/2)`."""
    steps = 50 * MAX_EPOCHS
    shape = (
        np.ones(steps)
        if schedule == "constant"
        else (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    )
    cosines = np.exp(-np.cumsum(np.log1p((momentum_free_rate * shape) ** 2)) / 2)[49::50]
    clock = (np.cumsum(shape) / np.sum(shape))[49::50]
    for epochs in (1, 2, 4, 6, 10):
        low, mid, high = only(curve_of((1 - cosines)[:epochs].tolist(), clock[:epochs].tolist()))
        assert low <= 1 - cosines[-1] <= high
    assert mid == pytest.approx(1 - cosines[-1], abs=0.03)


@pytest.mark.parametrize("distance", [0.0, 0.4, 0.9999, 1.0, 1.3, 2.0])
def test_at_the_last_epoch_the_forecast_is_the_measurement(distance):
    result = forecast(curve_of([0.2, distance], clock=[0.4, 0.97], max_epochs=2))
    assert result.low == result.mid == result.high == (distance,)
    assert result.notes == ("",)


def test_once_all_of_the_learning_rate_is_spent_the_forecast_is_the_measurement():
    assert only(curve_of([0.2, 0.3], clock=[0.5, 1.0])) == (0.3, 0.3, 0.3)


@pytest.mark.parametrize(
    ("distances", "low", "high"),
    [
        ([0.9, 1.0], 1.0, 1.0),
        ([0.99, 1.2], 1.0, 1.2),
        ([1.4, 1.4], 1.4, 1.4),
        ([0.999999, 0.97], 0.97, 0.97),
        ([0.5, 0.3], 0.3, 0.3),
    ],
    ids=["at 1", "past 1", "resting past 1", "back from 1", "turning back"],
)
@pytest.mark.parametrize("clock", [None, [0.1, 0.2]], ids=["epochs", "lr"])
def test_around_a_quarter_turn_the_forecast_stays_in_bounds(distances, low, high, clock):
    _, mid, _ = only(curve_of(distances, clock))
    assert low - 1e-12 <= mid <= high + 1e-12


@UNHURRIED
@given(
    st.lists(st.floats(0, 2) | st.just(math.nan), min_size=1, max_size=8),
    st.lists(st.floats(0, 1) | st.just(math.nan), min_size=8, max_size=8),
)
def test_every_forecast_is_in_order_and_in_range(distances, spent):
    clock = [math.nan] * 8 if any(map(math.isnan, spent)) else sorted(spent)
    result = forecast(curve_of(distances, clock, max_epochs=8))
    if result is not None and not math.isnan(result.mid[0]):
        assert 0 <= result.low[0] <= result.mid[0] <= result.high[0] <= 2


@pytest.mark.parametrize(
    ("spent", "clock"),
    [
        ([0.1, 0.2, 0.3], "lr"),
        ([0.0, 0.0, 0.1], "lr"),
        ([0.1, math.nan, 0.3], "epochs"),
        ([0.1, 0.2, math.nan], "epochs"),
        ([0.0, 0.0, 0.0], "epochs"),
    ],
)
def test_the_clock_is_the_learning_rate_where_all_of_it_is_known_and_some_is_spent(spent, clock):
    result = forecast(curve_of([0.1, 0.2, 0.3], spent))
    assert result.clock == clock
    assert ("schedule unknown" in result.notes[0]) == (clock == "epochs")
