"""What a learning rate that will still fall says of a trial."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.rotation.made_up_states import at, curve_of, state_of
from tuner.rotation.halving import TO_FALL, _still_to_fall

NAN = math.nan
EPOCHS = 20


def spent(rates: Sequence[float]) -> list[float]:
    """Return the share of a run's learning rate spent after each of its equal parts."""
    return (np.cumsum(rates) / np.sum(rates)).tolist()


CONSTANT = spent([0.1] * EPOCHS)
COSINE = spent([1 + math.cos(math.pi * (epoch + 0.5) / EPOCHS) for epoch in range(EPOCHS)])
LINEAR = spent([EPOCHS - epoch - 0.5 for epoch in range(EPOCHS)])
STEP = spent([1.0] * 10 + [0.1] * 10)
LATE_STEP = spent([1.0] * 16 + [0.1] * 4)
WARMUP = spent([0.5] + [1.0] * 19)
LONG_WARMUP = spent([0.1, 0.3, 0.5, 0.7, 0.9] + [1.0] * 15)
UNKNOWN = [NAN] * EPOCHS
ONCE_UNKNOWN = [CONSTANT[0], NAN, *CONSTANT[2:]]


@pytest.mark.parametrize(
    ("progress", "epoch", "expected"),
    [
        (CONSTANT, 1, 1.0),
        (CONSTANT, 4, 1.0),
        (CONSTANT, 20, 1.0),
        (COSINE, 1, 1.5),
        (COSINE, 4, 1.5),
        (COSINE, 10, 1.078),
        (COSINE, 15, 0.351),
        (COSINE, 20, 0.003),
        (LINEAR, 1, 1.5),
        (LINEAR, 8, 1.25),
        (STEP, 1, 1.5),
        (STEP, 10, 1.5),
        (STEP, 11, 0.182),
        (LATE_STEP, 1, 1.22),
        (WARMUP, 1, NAN),
        (WARMUP, 2, 1.026),
        (LONG_WARMUP, 1, NAN),
        (LONG_WARMUP, 4, NAN),
        (LONG_WARMUP, 5, 1.029),
        (LONG_WARMUP, 6, 1.143),
        (UNKNOWN, 1, NAN),
        (UNKNOWN, 4, NAN),
        (ONCE_UNKNOWN, 1, 1.0),
        (ONCE_UNKNOWN, 2, NAN),
        (ONCE_UNKNOWN, 3, NAN),
        (ONCE_UNKNOWN, 4, 1.0),
    ],
)
def test_it_is_the_rate_over_its_mean_up_to_one_and_a_half(progress, epoch, expected):
    curve = curve_of(range(1, EPOCHS + 1), lr_progress=progress)
    found = _still_to_fall(curve, epoch - 1)
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-3)


def test_within_an_epoch_it_counts_since_the_report_before():
    # Warmed up within the first quarter, then constant.
    quarters = spent([0.05] + [1.0] * 79)
    curve = curve_of([0.25, 0.5, 0.75, 1.0, 2.0], lr_progress=[*quarters[:4], quarters[7]])
    found = [_still_to_fall(curve, report) for report in range(5)]
    assert found == pytest.approx([NAN, 1.012, 1.012, 1.012, 1.012], nan_ok=True, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rates_of_any_size_and_batches_are_the_same_to_the_last_digit(dtype):
    """Ranks would make a full difference of a rounding error."""
    found = set()
    for steps in (235, 469, 938):
        for rate in (1e-3, 0.037, 0.1, 0.3):
            share = np.array(spent([rate] * steps * EPOCHS)).astype(dtype).tolist()
            progress = [share[steps * epoch - 1] for epoch in range(1, 5)]
            curve = curve_of(range(1, 5), lr_progress=progress)
            found |= {_still_to_fall(curve, report) for report in range(4)}
    assert found == {1.0}


def place_of_last(*progress: Sequence[float]) -> int:
    """Return the place, after an epoch, of the last of trials alike in all but their rates."""
    curves = {
        number: curve_of([1.0], lr_progress=share[:1]) for number, share in enumerate(progress)
    }
    (rung,) = (rung for rung in state_of(curves).rungs if rung.epoch == 1)
    return rung.place(len(progress) - 1)


def test_a_trial_whose_rate_will_fall_is_ranked_before_its_equal_whose_rate_stays():
    assert place_of_last(CONSTANT, COSINE) == 1
    assert place_of_last(COSINE, CONSTANT) == 2
    assert place_of_last(CONSTANT, STEP) == 1
    assert place_of_last(LATE_STEP, COSINE) == 1


def test_how_a_rate_will_fall_beyond_that_is_no_difference():
    assert place_of_last(COSINE, STEP) == place_of_last(STEP, LINEAR) == 1


def test_an_unknown_rate_is_taken_for_the_middle():
    assert place_of_last(CONSTANT, COSINE, UNKNOWN) == 2
    assert place_of_last(CONSTANT, COSINE, WARMUP) == 2


@pytest.mark.parametrize("schedule", [CONSTANT, COSINE, STEP, WARMUP])
def test_equal_schedules_change_nothing(schedule):
    metrics = [0.3, 0.9, 0.1, 0.5, 0.7]

    def places(progress: Sequence[float]) -> list[list[int]]:
        curves = {
            number: curve_of([1.0, 2.0], metric=metric, lr_progress=progress[:2])
            for number, metric in enumerate(metrics)
        }
        state = state_of(curves)
        return [[rung.place(number) for number in rung.numbers] for rung in state.rungs]

    assert places(schedule) == places(UNKNOWN)
    assert places(schedule)[1] == [4, 1, 5, 3, 2]


def test_a_schedule_is_the_last_merit_and_none_once_diverged():
    fine = curve_of([1.0], lr_progress=COSINE[:1])
    diverged = curve_of([1.0], lr_progress=COSINE[:1], loss=math.inf)
    features = at(state_of({0: fine, 1: diverged}), 1)
    assert features[0][TO_FALL] == 1.5
    assert math.isnan(features[1][TO_FALL])
