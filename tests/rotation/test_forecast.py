"""The forecast of the final rotation: exact where theory is, honest about the rest."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import final_distance
from tuner.rotation import RotationCurve, forecast

MAX_EPOCHS = 20
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


def curve_of(
    distances: Sequence[float], clock: Sequence[float] | None = None, max_epochs: int = MAX_EPOCHS
) -> RotationCurve:
    """Return the curve of one layer reported at epochs 1, 2, ..."""
    curve = RotationCurve(("layer",), max_epochs)
    for index, distance in enumerate(distances):
        spent = math.nan if clock is None else clock[index]
        curve = curve.append(index + 1, {"layer": distance}, lr_progress=spent)
    return curve


def cosine_clock(epochs: int) -> list[float]:
    """Return the share of a cosine schedule's learning rate spent after 1, 2, ... epochs."""
    shares = [epoch / MAX_EPOCHS for epoch in range(1, epochs + 1)]
    return [share + math.sin(math.pi * share) / math.pi for share in shares]


def test_nothing_is_forecast_from_an_empty_curve():
    assert forecast(RotationCurve(("layer",), 10)) is None


def test_nothing_is_forecast_without_layers():
    assert forecast(RotationCurve((), 10).append(1, {})) is None


def test_nothing_is_forecast_from_unknown_rotation():
    assert forecast(curve_of([math.nan, math.nan])) is None


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("epochs", [1, 2, 5, 13, 20])
@pytest.mark.parametrize("clock", ["lr", "epochs"])
def test_steady_rotation_is_forecast_exactly_along_either_clock(rate, epochs, clock):
    spent = (
        cosine_clock(epochs)
        if clock == "lr"
        else [epoch / MAX_EPOCHS for epoch in range(1, epochs + 1)]
    )
    distances = [1 - math.exp(-rate * share) for share in spent]
    result = forecast(curve_of(distances, spent if clock == "lr" else None))
    assert result.mid == pytest.approx((1 - math.exp(-rate),), abs=1e-12)
    assert result.clock == clock


def test_layca_without_momentum_is_forecast_nearly_exactly():
    """Its exact form is `cos = prod (1 + rho_t^2)^(-1/2)`: linear in epochs at a constant rate."""
    steps, rho = 50, 0.03
    distances = [1 - (1 + rho**2) ** (-steps * epoch / 2) for epoch in range(1, 21)]
    for epochs in (1, 4, 10):
        assert forecast(curve_of(distances[:epochs])).mid == pytest.approx((distances[-1],))


def test_the_slope_is_that_of_the_second_half_seen():
    """Fast at first and slow since half the clock: only the slow part is carried on."""
    distances = [1 - math.exp(-turned) for turned in (1.0, 2.0, 2.1, 2.2)]
    assert forecast(curve_of(distances, max_epochs=8)).mid == pytest.approx((1 - math.exp(-2.6),))


@UNHURRIED
@given(
    st.lists(st.tuples(st.floats(0.01, 0.1), st.floats(0, 0.3)), min_size=1, max_size=10),
)
def test_the_forecast_matches_the_reference(steps):
    clock = [sum(step[0] for step in steps[: index + 1]) for index in range(len(steps))]
    clock = [min(share, 1.0) for share in clock]
    distances = [
        1 - math.exp(-sum(step[1] for step in steps[: index + 1])) for index in range(len(steps))
    ]
    expected = final_distance(clock, distances)
    assert forecast(curve_of(distances, clock)).mid == pytest.approx((expected,), abs=1e-9)


@pytest.mark.parametrize("distance", [0.0, 0.4, 0.9999, 1.0, 1.3, 2.0])
def test_at_the_last_epoch_the_forecast_is_the_measurement(distance):
    result = forecast(curve_of([0.2, distance], clock=[0.4, 0.97], max_epochs=2))
    assert result.low == result.mid == result.high == (distance,)


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
def test_around_a_quarter_turn_the_forecast_stays_in_bounds(distances, low, high):
    (mid,) = forecast(curve_of(distances)).mid
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
    assert forecast(curve_of([0.1, 0.2, 0.3], spent)).clock == clock


@pytest.mark.parametrize(
    ("epoch", "clock", "half_width"),
    [
        (1, "lr", 2.3 * 0.22),
        (2, "lr", 2.3 * 0.11),
        (3, "lr", 2.3 * 0.085),
        (4, "lr", 2.3 * 0.06),
        (6, "lr", 2.3 * 0.04),
        (10, "lr", 2.3 * 0.02),
        (15, "lr", 2.3 * 0.01),
        (20, "lr", 0.0),
        (2, "epochs", 2.3 * 0.19),
        (4, "epochs", 2.3 * 0.13),
        (6, "epochs", 2.3 * 0.09),
        (13, "epochs", 2.3 * 0.045),
        (20, "epochs", 0.0),
    ],
)
def test_the_interval_is_as_wide_as_the_measured_errors(epoch, clock, half_width):
    spent = epoch / MAX_EPOCHS if clock == "lr" else math.nan
    # A layer resting at 1 leaves room on both sides.
    curve = RotationCurve(("layer",), MAX_EPOCHS).append(epoch, {"layer": 1.0}, lr_progress=spent)
    result = forecast(curve)
    assert result.high[0] - result.mid[0] == pytest.approx(half_width)
    assert result.mid[0] - result.low[0] == pytest.approx(half_width)


def test_a_layer_without_history_is_unknown_and_leaves_the_others_alone():
    curve = RotationCurve(("a", "b"), 10)
    for epoch in (1, 2, 3):
        curve = curve.append(epoch, {"a": 0.1 * epoch})
    result = forecast(curve)
    alone = forecast(curve_of([0.1, 0.2, 0.1 * 3], max_epochs=10))
    assert result.mid[0] == pytest.approx(alone.mid[0])
    assert all(math.isnan(bound[1]) for bound in (result.low, result.mid, result.high))


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


def test_a_layer_measured_only_before_the_clock_started_is_unknown():
    curve = RotationCurve(("a", "b"), 10).append(1, {"a": 0.1, "b": 0.1}, lr_progress=0.0)
    result = forecast(curve.append(2, {"a": 0.2}, lr_progress=0.1))
    assert math.isnan(result.mid[1])
    assert result.mid[0] > 0.2
