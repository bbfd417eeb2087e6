"""What a state knows of trials from their reports."""

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rotation.made_up_states import (
    LAYERS,
    at,
    by_metric,
    config_of,
    curve_of,
    descending,
    state_of,
    up_to,
)
from tuner.rotation import HalvingState, RotationCurve, RotationTarget, decide

NAN, INF = math.nan, math.inf
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


def assert_same(state: HalvingState, other: HalvingState) -> None:
    assert state.config == other.config
    assert len(state.rungs) == len(other.rungs)
    for mine, theirs in zip(state.rungs, other.rungs, strict=True):
        assert mine.epoch == theirs.epoch
        for column in ("numbers", "features", "scores"):
            np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    np.testing.assert_array_equal(state.weights.mean, other.weights.mean)
    assert state.weights.trials == other.weights.trials
    assert state.started == other.started


# Which report counts at which rung.


@pytest.mark.parametrize(
    ("epochs", "counted"),
    [
        ((0.25, 0.5, 0.75, 1, 1.25, 2), {0.25: 0.25, 1: 1, 2: 2}),
        ((0.2553, 0.5106, 0.766, 1, 2), {0.25: 0.2553, 1: 1, 2: 2}),
        ((0.3, 0.6, 0.9, 1, 2, 3, 4), {0.25: 0.3, 1: 1, 2: 2, 4: 4}),
        ((0.1, 0.2), {}),
        ((0.1, 0.2, 0.4), {0.25: 0.4}),
        ((1, 2, 3, 4), {0.25: 1, 1: 1, 2: 2, 4: 4}),
        ((3, 6), {0.25: 3, 1: 3, 2: 3, 4: 6}),
        ((0.5, 1.5, 2.5), {0.25: 0.5}),
        ((1, 2, 4, 20), {0.25: 1, 1: 1, 2: 2, 4: 4, 20: 20}),
        ((), {}),
    ],
    ids=[
        "four an epoch",
        "four an epoch of odd batches",
        "at .3",
        "not there yet",
        "past it",
        "one an epoch",
        "one every third epoch",
        "no whole epoch",
        "to the end",
        "none",
    ],
)
def test_a_report_counts_at_every_rung_it_is_the_first_at_or_after(epochs, counted):
    curve = curve_of(epochs, loss=tuple(map(float, epochs)))
    state = state_of({7: curve})
    found = {
        rung.epoch: -float(rung.features[0, 1])  # the loss, here the epoch
        for rung in state.rungs
        if 7 in rung
    }
    assert found == counted
    assert state.started == bool(counted)


def test_a_rung_is_met_by_an_epoch_summed_from_fractions():
    epochs = np.cumsum([0.1] * 20).tolist()
    assert epochs[9] != 1
    state = state_of({0: curve_of(epochs), 1: curve_of([1, 2])})
    assert set(at(state, 1)) == set(at(state, 2)) == {0, 1}
    met = [number for number in range(1, 21) if state.is_at_rung(up_to(curve_of(epochs), number))]
    assert met == [3, 10, 20]


def test_trials_that_report_less_often_are_compared_with_those_that_report_more():
    state = state_of({0: curve_of([0.25, 0.5, 0.75, 1.0]), 1: curve_of([1.0])})
    assert set(at(state, 0.25)) == set(at(state, 1)) == {0, 1}


@pytest.mark.parametrize(
    ("curve", "features"),
    [
        (curve_of([1.0], metric=0.7, loss=2.0, turned=0.3), (0.7, -2.0, 0.3, 1.0)),
        (curve_of([1.0], metric=0.7, loss=NAN, turned=NAN), (0.7, NAN, NAN, 1.0)),
        (curve_of([1.0], metric=0.7, loss=2.0, turned=1.2), (0.7, -2.0, 1.0, 1.0)),
        (curve_of([1.0], metric=0.7, loss=INF, turned=0.9), (0.7, -INF, NAN, NAN)),
        (curve_of([1.0], metric=0.7, loss=-INF, turned=0.9), (0.7, -INF, NAN, NAN)),
        (curve_of([0.5, 1.0], metric=0.7, loss=[2.0, NAN], turned=0.9), (0.7, -INF, NAN, NAN)),
        (curve_of([1.0], metric=-INF), (-INF, -1.0, 0.1, 1.0)),
    ],
    ids=[
        "all known",
        "metric alone",
        "beyond the target",
        "diverged",
        "diverged downwards",
        "no longer a number",
        "worst metric",
    ],
)
def test_merits_are_metric_loss_rotation_and_rate_the_more_the_better(curve, features):
    (found,) = at(state_of({0: curve}), 1).values()
    assert found == pytest.approx(features, nan_ok=True)


def test_within_an_epoch_there_is_no_metric():
    state = state_of({0: curve_of([0.25], loss=2.0, turned=0.3)})
    assert at(state, 0.25)[0] == pytest.approx((NAN, -2.0, 0.3, 1.0), nan_ok=True)


def test_a_whole_epoch_without_a_metric_is_compared_at_no_whole_epoch():
    state = state_of({0: curve_of([1.0], metric=NAN), 1: curve_of([1.0])})
    assert set(at(state, 0.25)) == {0, 1}
    assert set(at(state, 1)) == {1}


def test_a_report_of_which_nothing_is_known_is_compared_nowhere():
    state = state_of({0: curve_of([0.25, 1.0], metric=NAN, loss=NAN, turned=NAN)})
    assert [len(rung) for rung in state.rungs] == [0] * 5


@pytest.mark.parametrize(
    ("epochs", "rung", "is_at_it"),
    [
        ((), None, False),
        ((0.1,), None, False),
        ((0.25,), 0.25, True),
        ((0.25, 0.5), 0.25, False),
        ((0.2, 0.3), 0.25, True),
        ((1,), 1, True),
        ((1, 2), 2, True),
        ((1, 2, 3), 2, False),
        ((3,), 2, True),
        ((1, 2, 4, 19), 4, False),
        ((1, 2, 4, 20), 4, False),
    ],
)
def test_it_knows_the_last_rung_a_trial_has_passed_and_whether_it_is_there(epochs, rung, is_at_it):
    state, curve = HalvingState(config_of(), 20), curve_of(epochs)
    passed = state.rung_of(curve)
    assert (None if passed is None else passed.epoch) == rung
    assert state.is_at_rung(curve) is is_at_it


# Updates.


def test_a_report_at_no_rung_or_known_already_returns_the_state_itself():
    curve = curve_of([0.1, 0.25, 0.5, 1, 2, 3], turned=NAN)
    state = HalvingState(config_of(), 20)
    assert state.with_report(0, up_to(curve, 0)) is state
    assert state.with_report(0, up_to(curve, 1)) is state
    state = state.with_report(0, up_to(curve, 2))
    assert state.with_report(0, up_to(curve, 2)) is state
    assert state.with_report(0, up_to(curve, 3)) is state
    state = state.with_curves({0: curve})
    assert state.with_curves({0: curve}) is state
    assert state.with_curves({}) is state


def test_an_update_leaves_the_state_as_it_was():
    state = by_metric(*descending(20), epochs=(0.25, 1))
    again = by_metric(*descending(20), epochs=(0.25, 1))
    state.with_report(3, curve_of([0.25, 1, 2], metric=0.9))
    state.with_curves({0: curve_of([1.0], metric=0.0), 99: curve_of([1.0], metric=0.9)})
    assert_same(state, again)


TIMES = st.sampled_from(
    [(0.25, 0.5, 0.75, 1, 2, 3, 4), (0.2553, 0.766, 1, 2), (0.3, 1, 2, 3, 4, 5), (1, 2, 3), (3, 20)]
)
VALUE = st.sampled_from([0.1, 0.2, 0.3, 0.4, NAN])
LOSS = st.sampled_from([0.5, 1.0, 2.0, INF, NAN])


@st.composite
def curves(draw: st.DrawFn) -> RotationCurve:
    times = draw(TIMES)
    times = times[: draw(st.integers(1, len(times)))]

    def some(values: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(values, min_size=len(times), max_size=len(times)))

    return curve_of(times, metric=some(VALUE), loss=some(LOSS), turned=some(VALUE))


STUDIES = st.dictionaries(st.integers(0, 99), curves(), max_size=8)


@UNHURRIED
@given(STUDIES, st.randoms(use_true_random=False))
def test_the_same_reports_in_any_order_make_the_same_state_and_verdicts(study, shuffled):
    reports = [
        (number, up_to(curve, report))
        for number, curve in study.items()
        for report in range(1, len(curve) + 1)
    ]
    states = []
    for _ in range(2):
        shuffled.shuffle(reports)
        state = HalvingState(config_of(), 20)
        for number, curve in reports:
            state = state.with_report(number, curve)
        states.append(state)
    first, second = states
    assert_same(first, second)
    assert_same(first, state_of(study))
    for number, curve in reports:
        assert repr(decide(number, curve, first)) == repr(decide(number, curve, second))


@UNHURRIED
@given(STUDIES)
def test_a_smaller_metric_is_better_when_minimising_in_the_mirror_image(study):
    mirrored = {
        number: dataclasses.replace(curve, metric=tuple(-value for value in curve.metric))
        for number, curve in study.items()
    }
    largest, smallest = state_of(study, mode="max"), state_of(mirrored, mode="min")
    for mine, theirs in zip(largest.rungs, smallest.rungs, strict=True):
        np.testing.assert_array_equal(mine.features, theirs.features)
    for number, curve in study.items():
        assert repr(decide(number, mirrored[number], smallest)) == repr(
            decide(number, curve, largest)
        )


def test_weights_are_learnt_from_the_study_as_it_goes():
    draw = random.Random(0)
    study = {}
    for number in range(60):
        quality = draw.random()
        study[number] = curve_of([1, 2], metric=[draw.random(), quality], turned=quality)
    state = state_of(study)
    assert state.weights.trials == 2 * 60
    assert state.weights.rotation_is == "informative"
    assert HalvingState(config_of(), 20).weights.rotation_is == "not known yet"


def test_layers_are_judged_by_the_target():
    curve = RotationCurve(LAYERS, 20).append(1, {"stem": 0.9, "hidden": 0.4, "head": 0.9})
    assert at(state_of({0: curve}), 0.25)[0][2] == 0.4
    modest = RotationTarget(distance=0.3)
    assert at(state_of({0: curve}, target=modest), 0.25)[0][2] == 0.3


class TestDiverged:
    """A trial that diverges after a rung leaves its place there to the next one."""

    def state(self, *, diverged_late: bool) -> HalvingState:
        curves = {
            number: RotationCurve(LAYERS, 20).append(
                1, dict.fromkeys(LAYERS, 0.1), lr_progress=0.05, metric=0.1 * number, train_loss=1.0
            )
            for number in range(8)
        }
        state = HalvingState(config_of(keep=0.25, warmup_epochs=1), 20).with_curves(curves)
        for number in (6, 7):
            longer = curves[number].append(
                2, {}, lr_progress=0.1, metric=0.9, train_loss=math.inf if diverged_late else 0.5
            )
            state = state.with_report(number, longer)
            curves[number] = longer
        again = HalvingState(config_of(keep=0.25, warmup_epochs=1), 20).with_curves(curves)
        for mine, theirs in zip(state.rungs, again.rungs, strict=True):
            np.testing.assert_array_equal(mine.features, theirs.features)
            np.testing.assert_array_equal(mine.scores, theirs.scores)
        return state

    def test_the_next_trial_is_promotable(self):
        assert self.state(diverged_late=False).next_promotable(range(6), False) is None
        assert self.state(diverged_late=True).next_promotable(range(6), False) == 5

    def test_it_is_last_at_every_rung_and_its_rotation_is_no_evidence(self):
        rung = self.state(diverged_late=True).rungs[0]
        assert rung.place(7) == rung.place(6) == 7
        assert np.isnan(rung.features[6:, 2]).all()
        assert len(rung) == 8
