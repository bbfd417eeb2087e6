"""The interval of a forecast: how wide it is, and that runs end inside it."""

import math

import numpy as np
import pytest

from tests.rotation.one_layer import (
    MAX_EPOCHS,
    cosine_clock,
    curve_of,
    only,
    power,
    steady_clock,
)
from tuner.rotation import RotationCurve, forecast


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_the_interval_narrows_as_the_run_goes_on_and_vanishes_at_its_end(exponent):
    clock = cosine_clock(MAX_EPOCHS)
    clock[-1] = 1.0
    distances = power(0.5, exponent, clock)
    widths = []
    for epochs in range(2, MAX_EPOCHS + 1):
        low, _, high = only(curve_of(distances[:epochs], clock[:epochs]))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0


@pytest.mark.parametrize("epochs", [1, 2, 4, 6, 10])
def test_under_an_unknown_schedule_hardly_anything_more_may_happen(epochs):
    """The rate may fall at any time, as it does on a plateau."""
    distances = power(0.5, 0.8, steady_clock(epochs))
    known_low, known_mid, _ = only(curve_of(distances, steady_clock(epochs)))
    low, mid, high = only(curve_of(distances))
    assert low < known_low
    assert mid < known_mid < high
    assert high - low > 0.05


def test_a_plateau_that_ends_the_rate_ends_inside_the_interval():
    """Reduced on a plateau after half the run, to a hundredth: the layer stays where it is."""
    distances = power(0.5, 0.8, steady_clock(10))
    low, _, _ = only(curve_of(distances))
    assert low <= distances[-1] * 1.01


def test_one_report_is_enough_and_says_how_little_it_is():
    result = forecast(curve_of([0.05], [0.05]))
    assert 0.05 < result.low[0] < result.mid[0] < result.high[0]
    assert result.high[0] - result.low[0] > 0.5
    assert "less than a doubling" in result.notes[0]


def test_reports_within_the_first_epoch_are_enough():
    curve = RotationCurve(("layer",), MAX_EPOCHS)
    for epoch in (0.125, 0.25, 0.375, 0.5):
        clock = epoch / MAX_EPOCHS
        (distance,) = power(0.4, 0.8, [clock])
        curve = curve.append(epoch, {"layer": distance}, lr_progress=clock)
    low, mid, high = only(curve)
    assert low <= 1 - math.exp(-0.4) <= high
    assert 0 < mid < 1


def test_random_walks_end_inside_the_interval_as_often_as_they_should():
    """Layers in 3,000 dimensions that step at random, under a steady and a falling rate."""
    random = np.random.default_rng(0)
    steps, layers, inside = 10 * MAX_EPOCHS, 10, []
    for shape in (np.ones(steps), (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2):
        clock = (np.cumsum(shape) / shape.sum())[9::10]
        for rate in (0.02, 0.05, 0.1):
            initial = random.standard_normal((layers, 3000))
            weight, distances = initial.copy(), []
            for step in range(steps):
                weight += rate * shape[step] * random.standard_normal(weight.shape)
                if step % 10 == 9:
                    norms = np.linalg.norm(weight, axis=1) * np.linalg.norm(initial, axis=1)
                    distances.append(tuple((1 - (weight * initial).sum(axis=1) / norms).tolist()))
            names = tuple(map(str, range(layers)))
            for epochs in (2, 4, 6, 10):
                unknown = (math.nan,) * epochs
                seen = tuple(clock[:epochs].tolist()), tuple(distances[:epochs])
                epochs_done = tuple(range(1, epochs + 1))
                curve = RotationCurve(names, MAX_EPOCHS, epochs_done, *seen, unknown, unknown)
                result = forecast(curve)
                ends = zip(result.low, distances[-1], result.high, strict=True)
                inside += [low <= end <= high for low, end, high in ends]
    assert np.mean(inside) >= 0.85
