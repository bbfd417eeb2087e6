"""Forecasts under schedules that are not plain: warmup, restarts, weight decay."""

import math

import numpy as np
import pytest

from tests.rotation.one_layer import MAX_EPOCHS, curve_of, only, power, steady_clock
from tuner.rotation import forecast


def test_warmup_is_what_the_clock_is_for():
    """Slow over four epochs of warmup, then steady: along the clock it is one power."""
    rates = np.minimum(np.arange(1, MAX_EPOCHS + 1) / 4, 1)
    clock = (np.cumsum(rates) / rates.sum()).tolist()
    distances = power(0.6, 0.8, clock)
    for epochs in (1, 2, 3, 6, 10):
        low, mid, high = only(curve_of(distances[:epochs], clock[:epochs]))
        assert low <= 1 - math.exp(-0.6) <= high
    without_warmup = [clock[9] * report / 10 for report in range(1, 11)]
    same = only(curve_of(power(0.6, 0.8, without_warmup), without_warmup))
    assert mid == pytest.approx(same[1], abs=1e-9)
    assert mid > only(curve_of(distances[:10]))[1] + 0.02


def test_a_rate_that_starts_at_zero_does_not_start_the_clock():
    late = curve_of([0.0, 0.05, 0.1], [0.0, 0.05, 0.1])
    assert only(late)[1] == pytest.approx(only(curve_of([0.05, 0.1], [0.05, 0.1]))[1], abs=1e-9)


def restarted(epochs: int) -> list[float]:
    """Return the clock of two cosine cycles over the run."""
    shares = [(epoch % 10) / 10 if epoch % 10 else 1.0 for epoch in range(1, epochs + 1)]
    cycles = [(epoch - 1) // 10 for epoch in range(1, epochs + 1)]
    spent = [share + math.sin(math.pi * share) / math.pi for share in shares]
    return [(cycle + part) / 2 for cycle, part in zip(cycles, spent, strict=True)]


@pytest.mark.parametrize("epochs", [2, 4, 6, 9, 10, 12])
@pytest.mark.parametrize("exponent", [0.4, 0.8])
def test_restarts_of_the_learning_rate_are_handled_by_the_clock(epochs, exponent):
    clock = restarted(epochs)
    low, _, high = only(curve_of(power(0.5, exponent, clock), clock))
    assert low <= 1 - math.exp(-0.5) <= high


def test_before_a_restart_the_interval_reaches_higher_and_says_why():
    clock = restarted(10)
    distances = power(0.5, 0.8, clock)
    result = forecast(curve_of(distances, clock))
    steady = forecast(curve_of(power(0.5, 0.8, steady_clock(10)), steady_clock(10)))
    assert result.mid == pytest.approx(steady.mid, abs=0.02)
    assert result.high[0] - result.mid[0] > 1.5 * (steady.high[0] - steady.mid[0])
    assert "times the last" in result.notes[0]
    assert steady.notes == ("",)


# exp(-total) is the norm's decay over the run, `noise` the squared steps' sum over |w0|^2.
@pytest.mark.parametrize("total", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("epochs", [4, 6, 10])
def test_s_shaped_curves_under_weight_decay_end_inside_the_interval(total, noise, epochs):
    """Exact form: `cos = prod (1 - eta lambda) |w0| / |w_T|`, here at a constant rate."""
    steps = 50 * MAX_EPOCHS
    kept, squared_norm, distances = 1.0, 1.0, []
    for step in range(steps):
        kept *= 1 - total / steps
        squared_norm = squared_norm * (1 - total / steps) ** 2 + noise / steps
        if step % 50 == 49:
            distances.append(1 - kept / math.sqrt(squared_norm))
    result = forecast(curve_of(distances[:epochs], steady_clock(epochs)))
    assert result.low[0] <= distances[-1] <= result.high[0]
    if total >= 2 * noise:
        assert "speeds up" in result.notes[0]
    if total <= noise / 5:
        assert result.notes == ("",)
