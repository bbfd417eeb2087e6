"""Each layer is forecast by itself, also where reports of it are missing or it does not move."""

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


def test_a_layer_without_history_is_unknown_and_leaves_the_others_alone():
    curve = RotationCurve(("a", "b"), 10)
    for epoch in (1, 2, 3):
        curve = curve.append(epoch, {"a": 0.1 * epoch})
    result = forecast(curve)
    alone = forecast(curve_of([0.1, 0.2, 0.1 * 3], max_epochs=10))
    assert result.mid[0] == pytest.approx(alone.mid[0])
    assert all(math.isnan(bound[1]) for bound in (result.low, result.mid, result.high))
    assert "not measured" in result.notes[1]


def test_a_layer_missing_from_the_last_report_is_forecast_from_its_own_last_one():
    seen = (
        RotationCurve(("a", "b"), 10)
        .append(1, {"a": 0.1, "b": 0.1})
        .append(2, {"a": 0.2, "b": 0.2})
    )
    later = seen.append(3, {"a": 0.25})
    assert forecast(later).mid[1] == pytest.approx(forecast(seen).mid[1])
    assert forecast(later).high[1] == pytest.approx(forecast(seen).high[1])
    assert forecast(later).mid[0] != pytest.approx(forecast(seen).mid[0])


def test_a_hole_in_the_history_is_bridged():
    clock = steady_clock(8)
    distances = power(0.5, 0.7, clock)
    whole = only(curve_of(distances, clock))
    holed = distances[:2] + [math.nan] * 3 + distances[5:]
    assert only(curve_of(holed, clock)) == pytest.approx(whole, abs=1e-9)


def test_a_layer_measured_only_before_the_clock_started_is_unknown():
    curve = RotationCurve(("a", "b"), 10).append(1, {"a": 0.1, "b": 0.1}, lr_progress=0.0)
    result = forecast(curve.append(2, {"a": 0.2}, lr_progress=0.1))
    assert math.isnan(result.mid[1])
    assert result.mid[0] > 0.2


def unfreezing(reports: int) -> RotationCurve:
    """Return two layers, of which one is frozen for the first five epochs."""
    curve = RotationCurve(("free", "frozen"), MAX_EPOCHS)
    for epoch in range(1, reports + 1):
        (free,) = power(0.5, 0.7, [epoch / MAX_EPOCHS])
        (frozen,) = power(0.5, 0.7, [max(epoch - 5, 0) / 15])
        curve = curve.append(
            epoch, {"free": free, "frozen": frozen}, lr_progress=epoch / MAX_EPOCHS
        )
    return curve


def test_a_layer_that_is_still_while_others_move_is_not_forecast_and_says_why():
    result = forecast(unfreezing(5))
    assert all(math.isnan(bound[1]) for bound in (result.low, result.mid, result.high))
    assert "has not moved yet" in result.notes[1]
    assert not math.isnan(result.mid[0])
    assert result.notes[0] == ""


@pytest.mark.parametrize("reports", [6, 7, 9, 15])
def test_an_unfrozen_layer_is_forecast_as_if_the_run_had_begun_then(reports):
    result = forecast(unfreezing(reports))
    clock = [epoch / 15 for epoch in range(1, reports - 4)]
    alone = only(curve_of(power(0.5, 0.7, clock), clock, max_epochs=15))
    assert result.mid[1] == pytest.approx(alone[1], abs=1e-9)
    assert result.low[1] <= 1 - math.exp(-0.5) <= result.high[1]
    assert "began to move after 25% of the epochs" in result.notes[1]


def test_a_layer_frozen_to_the_end_is_measured_there():
    curve = RotationCurve(("free", "frozen"), 1).append(1, {"free": 0.5, "frozen": 0.0})
    assert forecast(curve).mid == (0.5, 0.0)


def test_where_nothing_moves_anything_can_follow():
    result = forecast(curve_of([0.0, 0.0], [0.1, 0.2]))
    assert (result.low, result.mid, result.high) == ((0.0,), (0.0,), (1.0,))
    assert "nothing has moved yet" in result.notes[0]


def test_a_thousand_layers_are_forecast_as_each_alone():
    random = np.random.default_rng(0)
    clock = cosine_clock(9)
    columns = [power(random.uniform(0.01, 3), random.uniform(0.2, 2), clock) for _ in range(1000)]
    for column in columns[::7]:
        column[0] = 0.0
    rows = tuple(zip(*columns, strict=True))
    names = tuple(map(str, range(1000)))
    unknown = (math.nan,) * 9
    curve = RotationCurve(names, 20, tuple(range(1, 10)), tuple(clock), rows, unknown, unknown)
    result = forecast(curve)
    for layer in (0, 1, 7, 8, 500, 999):
        expected = forecast(curve_of(columns[layer], clock))
        assert result.low[layer] == pytest.approx(expected.low[0], abs=1e-12)
        assert result.mid[layer] == pytest.approx(expected.mid[0], abs=1e-12)
        assert result.high[layer] == pytest.approx(expected.high[0], abs=1e-12)
