"""The forecast of the final rotation: right where theory is, honest about the rest."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def steady_clock(epochs: int) -> list[float]:
    return [epoch / MAX_EPOCHS for epoch in range(1, epochs + 1)]


def power(rate: float, exponent: float, clock: Sequence[float]) -> list[float]:
    """Return the distances of a layer whose s grows as a power of the clock, to `rate`."""
    return [1 - math.exp(-rate * spent**exponent) for spent in clock]


def only(curve: RotationCurve) -> tuple[float, float, float]:
    """Return low, mid and high of a curve's only layer."""
    result = forecast(curve)
    assert result is not None
    return result.low[0], result.mid[0], result.high[0]


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


# The interval


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


# Schedules that are not plain


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


# Layers apart


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
