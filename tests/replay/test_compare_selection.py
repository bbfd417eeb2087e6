"""Which trial a replay selects, and what cannot be replayed."""

from __future__ import annotations

import math

import pytest
from made_up_trials import recorded

from tuner.errors import InvalidInput
from tuner.replay.recording import RecordedTrial
from tuner.replay.schedulers import NEW, Action, NeverStop
from tuner.replay.simulator import prefixes, simulate
from tuner.rotation import RotationCurve


def selected(trials, stops, mode):
    """The trial selected if those in `stops` end at the given epoch."""

    class StopAt(NeverStop):
        def report(self, number, curve):
            return Action.STOP if stops.get(number) == curve.epochs[-1] else Action.CONTINUE

    replayed = simulate(trials, StopAt(), 1, mode)
    return replayed.selected, replayed.metric


TRIALS = [
    recorded(7, [0.1, 0.9, 0.5]),
    recorded(3, [0.2, 0.8, 0.7]),
    recorded(5, [0.3, 0.1, 0.7]),
    recorded(1, [0.4, 0.4, math.nan]),
]


@pytest.mark.parametrize(
    ("stops", "mode", "answer"),
    [
        ({}, "max", (3, 0.7)),  # the first of two equals
        ({}, "min", (7, 0.5)),
        ({3: 2}, "max", (5, 0.7)),  # a better one that was stopped does not count
        ({7: 2, 3: 2, 5: 2, 1: 2}, "max", (7, 0.9)),  # none finished: the best last metric
        ({7: 1, 3: 1, 5: 1, 1: 1}, "min", (7, 0.1)),
        ({7: 2, 3: 2, 5: 2}, "max", (7, 0.9)),  # only a NaN finished
    ],
)
def test_the_best_of_those_that_finished_is_selected(stops, mode, answer):
    assert selected(TRIALS, stops, mode) == answer


def test_a_nan_is_selected_only_where_there_is_nothing_else():
    number, metric = selected(
        [recorded(4, [0.5, math.nan]), recorded(2, [0.5, math.nan])], {}, "max"
    )
    assert number == 4
    assert math.isnan(metric)
    diverged = [recorded(4, [math.nan]), recorded(2, [math.inf])]
    assert selected(diverged, {}, "min") == (2, math.inf)


def test_a_trial_stopped_within_its_first_epoch_has_no_metric():
    trial = recorded(6, [math.nan, 0.5], epochs=[0.5, 1])
    number, metric = selected([trial], {6: 0.5}, "max")
    assert number == 6
    assert math.isnan(metric)


def test_no_trials_is_no_selection():
    replayed = simulate([], NeverStop(), 3, "max")
    assert (replayed.selected, replayed.total_epochs, replayed.finished) == (None, 0, frozenset())


def test_a_policy_that_chooses_nothing_ends_the_replay():
    class Idle(NeverStop):
        def choose(self, paused, new):
            return None

    replayed = simulate(TRIALS, Idle(), 3, "max")
    assert (replayed.selected, replayed.total_epochs) == (None, 0)
    assert set(replayed.epochs) == {1, 3, 5, 7}


class Chooses(NeverStop):
    def __init__(self, number):
        self.number = number

    def choose(self, paused, new):
        return self.number


@pytest.mark.parametrize(
    ("trials", "policy", "workers", "message"),
    [
        (TRIALS, NeverStop(), 0, "workers must be >= 1, got 0"),
        ([TRIALS[0], TRIALS[0]], NeverStop(), 1, "got number 7 twice"),
        (TRIALS, Chooses(3), 1, r"must choose a paused trial \[\] or, .* got 3"),
        (
            [RecordedTrial(9, prefixes(TRIALS[0].curve)[1], 0.5, {})],
            NeverStop(),
            1,
            "recorded to its last epoch 3, got trial 9 up to 2; leave out",
        ),
        (
            [RecordedTrial(9, RotationCurve(("w",), 3), 0.5, {})],
            NeverStop(),
            1,
            "got trial 9 up to 0",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused(trials, policy, workers, message):
    with pytest.raises(InvalidInput, match=message):
        simulate(trials, policy, workers, "max")


def test_a_new_trial_cannot_be_chosen_when_none_is_left():
    class Greedy(NeverStop):
        def report(self, number, curve):
            return Action.PAUSE

        def choose(self, paused, new):
            return NEW

    with pytest.raises(InvalidInput, match="NEW, got -1"):
        simulate(TRIALS, Greedy(), 1, "max")
