"""The simulator against slow and obvious loops, and the order in which reports come."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_trials import LEVELS, random_trials, recorded

from tuner.replay.recording import RecordedTrial
from tuner.replay.schedulers import NEW, PEERS, Action, NeverStop, Policy
from tuner.replay.simulator import prefixes, simulate
from tuner.rotation import RotationCurve


class Whim(Policy):
    """Does anything that a policy may do, by a seed; it also notes what it saw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.reports: list[tuple[int, float]] = []

    def report(self, number: int, curve: RotationCurve) -> Action:
        self.reports.append((number, curve.epochs[-1]))
        draw = random.Random(f"{self.seed} {number} {len(curve)}")
        return draw.choices([Action.CONTINUE, Action.PAUSE, Action.STOP], [6, 3, 1])[0]

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        draw = random.Random(f"{self.seed} {len(self.reports)} {sorted(paused)} {new}")
        return draw.choice([*paused, *[NEW] * 3 * new, *[None] * bool(self.reports)])


def one_after_another(trials: list[RecordedTrial], policy: Policy) -> dict[int, float]:
    """One worker, as plainly as it can be said: the epoch that each trial reached."""
    reached = {trial.number: 0.0 for trial in trials}
    reports = {trial.number: list(prefixes(trial.curve)) for trial in trials}
    waiting = [trial.number for trial in trials]
    paused: list[int] = []
    while waiting or paused:
        number = policy.choose(paused, bool(waiting))
        if number is None:
            break
        if number == NEW:
            number = waiting.pop(0)
        else:
            paused.remove(number)
        action = Action.CONTINUE
        while action is Action.CONTINUE and reports[number]:
            curve = reports[number].pop(0)
            action = policy.report(number, curve)
            reached[number] = curve.epochs[-1]
        if action is Action.PAUSE and reports[number]:
            paused.append(number)
    return reached


def round_by_round(trials: list[RecordedTrial], policy: Policy, workers: int) -> dict[int, float]:
    """Any number of workers, for trials that report at the same epochs: all take one step each."""
    reached = {trial.number: 0.0 for trial in trials}
    reports = {trial.number: list(prefixes(trial.curve)) for trial in trials}
    waiting = [trial.number for trial in trials]
    paused: list[int] = []
    this_round: list[int] = []
    next_round: list[int] = []

    def fill() -> None:
        while len(this_round) + len(next_round) < workers and (waiting or paused):
            number = policy.choose(paused, bool(waiting))
            if number is None:
                return
            if number == NEW:
                number = waiting.pop(0)
            else:
                paused.remove(number)
            next_round.append(number)

    fill()
    while next_round:
        this_round, next_round = next_round, []
        while this_round:
            number = this_round.pop(0)
            curve = reports[number].pop(0)
            action = policy.report(number, curve)
            reached[number] = curve.epochs[-1]
            if reports[number] and action is Action.CONTINUE:
                next_round.append(number)
            elif reports[number] and action is Action.PAUSE:
                paused.append(number)
            fill()
    return reached


@pytest.mark.parametrize("reports_per_epoch", [1, 4])
@pytest.mark.parametrize("seed", range(30))
def test_one_worker_does_as_a_plain_loop_does(seed, reports_per_epoch):
    trials = random_trials(seed, 12, 9, reports_per_epoch=reports_per_epoch)
    slow, fast = Whim(seed), Whim(seed)
    reached = one_after_another(trials, slow)
    assert simulate(trials, fast, 1, "max").epochs == reached
    assert fast.reports == slow.reports


@pytest.mark.parametrize("workers", [2, 3, 8, 40])
@pytest.mark.parametrize("seed", range(30))
def test_many_workers_do_as_rounds_of_one_report_each_do(seed, workers):
    trials = random_trials(seed, 30, 6, reports_per_epoch=1 + 3 * (seed % 2))
    slow, fast = Whim(seed), Whim(seed)
    reached = round_by_round(trials, slow, workers)
    assert simulate(trials, fast, workers, "max").epochs == reached
    assert fast.reports == slow.reports


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_is_simulated_as_the_plain_loops_do(name, workers):
    for seed in range(2):
        trials = random_trials(seed, 25, 20, nan=0.05, levels=LEVELS.get(name, 16))
        fast, slow = (PEERS[name](20, "max", seed) for _ in range(2))
        reached = round_by_round(trials, slow, workers)
        assert simulate(trials, fast, workers, "max").epochs == reached
        if workers == 1:
            assert one_after_another(trials, PEERS[name](20, "max", seed)) == reached


class Witness(Policy):
    """Checks what the simulator owes to any policy, and passes on to another."""

    def __init__(self, inner: Policy, workers: int, max_epochs: int) -> None:
        self.inner, self.workers, self.max_epochs = inner, workers, max_epochs
        self.lengths: dict[int, int] = {}
        self.paused: set[int] = set()
        self.over: set[int] = set()
        self.running = 0

    def report(self, number: int, curve: RotationCurve) -> Action:
        assert number not in self.paused | self.over
        assert len(curve) == self.lengths.get(number, 0) + 1
        self.lengths[number] = len(curve)
        action = self.inner.report(number, curve)
        if curve.epochs[-1] == self.max_epochs or action is Action.STOP:
            self.over.add(number)
        elif action is Action.PAUSE:
            self.paused.add(number)
        else:
            return action
        self.running -= 1
        return action

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        assert set(paused) == self.paused
        assert len(set(paused)) == len(paused)
        assert self.running < self.workers
        chosen = self.inner.choose(paused, new)
        self.running += chosen is not None
        self.paused.discard(chosen)
        return chosen


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 20),
    max_epochs=st.integers(1, 7),
    reports_per_epoch=st.integers(1, 3),
    workers=st.sampled_from([1, 2, 8]),
)
def test_every_report_comes_once_and_in_order_and_no_more_run_than_there_are_workers(
    seed, count, max_epochs, reports_per_epoch, workers
):
    trials = random_trials(seed, count, max_epochs, reports_per_epoch=reports_per_epoch)
    witness = Witness(Whim(seed), workers, max_epochs)
    replayed = simulate(trials, witness, workers, "min")
    assert witness.running == 0
    assert replayed.epochs == {
        trial.number: witness.lengths.get(trial.number, 0) / reports_per_epoch for trial in trials
    }
    assert replayed.total_epochs == pytest.approx(sum(witness.lengths.values()) / reports_per_epoch)
    whole = max_epochs * reports_per_epoch
    assert replayed.finished == {n for n, length in witness.lengths.items() if length == whole}


class Diary(NeverStop):
    def __init__(self) -> None:
        self.entries: list[tuple[int, float]] = []

    def report(self, number: int, curve: RotationCurve) -> Action:
        self.entries.append((number, curve.epochs[-1]))
        return Action.CONTINUE


def test_reports_arrive_by_time_and_at_the_same_time_in_the_order_they_were_begun():
    trials = [
        recorded(0, [math.nan, 1, math.nan, 1], epochs=[0.5, 1, 1.5, 2]),
        recorded(1, [1, 1]),
        recorded(2, [1, 1]),
    ]
    diary = Diary()
    simulate(trials, diary, 2, "max")
    assert diary.entries == [
        (0, 0.5),
        (1, 1),  # begun at 0, and the other at 0.5
        (0, 1),
        (0, 1.5),
        (1, 2),
        (0, 2),
        (2, 1),
        (2, 2),
    ]


def test_rounding_does_not_bring_a_report_forward():
    sevenths = [report / 7 for report in range(1, 15)]
    assert list(accumulate([1 / 7] * 7))[-1] < 1  # what `sum` no longer does since Python 3.12
    often = recorded(1, [1] * 14, epochs=sevenths)
    diary = Diary()
    simulate([recorded(0, [1, 1]), often], diary, 2, "max")
    # At each whole epoch the one that trained longest without a report is first.
    assert [entry for entry in diary.entries if entry[1] in (1, 2)] == [
        (0, 1),
        (1, 1),
        (0, 2),
        (1, 2),
    ]
