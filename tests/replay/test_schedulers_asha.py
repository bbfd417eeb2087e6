"""Our stopping rule is Ray's, decision by decision."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest
from made_up_trials import random_trials, recorded
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from tuner.replay.schedulers import PEERS, Action, Asha, NeverStop, by_metric, milestones
from tuner.replay.simulator import prefixes, simulate

# What Ray's numpy says of rungs that hold nothing but NaN, or infinities.
pytestmark = pytest.mark.filterwarnings(
    "ignore:All-NaN slice:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)

ANSWERS = {TrialScheduler.CONTINUE: Action.CONTINUE, TrialScheduler.STOP: Action.STOP}


def random_metric(draw: random.Random) -> float:
    """Often a tie, sometimes not a number, and at times infinite."""
    kind = draw.random()
    if kind < 0.05:
        return math.nan
    if kind < 0.07:
        return draw.choice((math.inf, -math.inf))
    return draw.randrange(8) / 7 if kind < 0.5 else draw.gauss(0, 1)


def decisions(seed: int, eta: int, mode: str, max_epochs: int, gaps: float) -> int:
    """Ask both about trials that take turns at random; return how often they were asked.

    Args:
        gaps: share of the reports left out, so that trials come past rungs they were not at.
    """
    draw = random.Random(seed)
    theirs = AsyncHyperBandScheduler(
        metric="m", mode=mode, max_t=max_epochs, grace_period=1, reduction_factor=eta, brackets=1
    )
    ours = Asha(max_epochs, by_metric(mode), eta=eta)
    asked = 0
    running = {}
    waiting = list(range(60))
    while waiting or running:
        if waiting and (len(running) < 8):
            number = waiting.pop(0)
            trial = recorded(number, [random_metric(draw) for _ in range(max_epochs)])
            running[number] = iter(prefixes(trial.curve))
            theirs.on_trial_add(None, SimpleNamespace(trial_id=str(number)))
            continue
        number = draw.choice(list(running))
        curve = next(running[number])
        at_end = len(curve) == max_epochs
        if not at_end and draw.random() < gaps:
            continue
        answer = theirs.on_trial_result(
            None,
            SimpleNamespace(trial_id=str(number)),
            {"training_iteration": len(curve), "m": curve.metric[-1]},
        )
        mine = ours.report(number, curve)
        asked += 1
        if at_end:
            assert answer == TrialScheduler.STOP
        else:
            assert mine is ANSWERS[answer], (number, curve)
        if at_end or mine is Action.STOP:
            del running[number]
    return asked


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_every_decision_is_rays(eta, mode):
    asked = sum(
        decisions(seed, eta, mode, max_epochs, gaps)
        for seed in range(12)
        for max_epochs, gaps in ((20, 0.0), (27, 0.0), (20, 0.4))
    )
    assert asked > 5_000


@pytest.mark.parametrize("eta", [2, 3, 4, 7])
def test_the_rungs_are_rays(eta):
    for max_epochs in range(1, 800):
        (bracket,) = AsyncHyperBandScheduler(max_t=max_epochs, reduction_factor=eta)._brackets
        theirs = sorted(milestone for milestone, _ in bracket._rungs)
        # Whoever is at max_t has ended, so that a rung there decides nothing.
        assert milestones(max_epochs, eta) == [epoch for epoch in theirs if epoch < max_epochs]


@pytest.mark.parametrize("name", ["asha-2", "asha-3", "asha-4"])
def test_a_name_carries_its_factor(name):
    class Both(NeverStop):
        theirs = AsyncHyperBandScheduler(
            metric="m", mode="max", max_t=20, reduction_factor=int(name[-1])
        )
        ours = PEERS[name](20, "max", 0)
        stopped = 0

        def report(self, number, curve):
            trial = SimpleNamespace(trial_id=str(number))
            if len(curve) == 1:
                self.theirs.on_trial_add(None, trial)
            result = {"training_iteration": len(curve), "m": curve.metric[-1]}
            answer = self.theirs.on_trial_result(None, trial, result)
            mine = self.ours.report(number, curve)
            if len(curve) < 20:
                assert mine is ANSWERS[answer]
            self.stopped += mine is Action.STOP
            return mine

    both = Both()
    simulate(random_trials(3, 60, 20), both, 8, "max")
    assert both.stopped > 20


def first_action(policy, number, epoch, loss, *, epochs=(0.1, 0.3, 0.6, 1, 2)):
    """What a policy says of a trial at `epoch`, after being shown all before it."""
    trial = recorded(number, [0.5] * len(epochs), losses=[loss] * len(epochs), epochs=epochs)
    for curve in prefixes(trial.curve):
        action = policy.report(number, curve)
        if curve.epochs[-1] == epoch:
            return action
        assert action is Action.CONTINUE, curve.epochs[-1]
    raise AssertionError(epoch)


def early():
    return PEERS["asha-early"](2, "max", 0)


def test_the_early_rung_is_the_first_report_after_a_quarter_of_the_first_epoch():
    policy = early()
    assert first_action(policy, 0, 1, loss=0.3) is Action.CONTINUE
    assert first_action(policy, 1, 0.3, loss=0.4) is Action.STOP
    assert first_action(policy, 2, 0.3, loss=0.2) is Action.CONTINUE
    # Not judged again at 0.6, though by then it would be the worst.
    policy = early()
    waits = recorded(5, [0.5] * 5, losses=[0.3, 0.3, 9, 9, 9], epochs=(0.1, 0.3, 0.6, 1, 2))
    curves = prefixes(waits.curve)
    assert policy.report(5, curves[1]) is Action.CONTINUE
    assert first_action(policy, 6, 0.3, loss=0.1) is Action.CONTINUE
    assert policy.report(5, curves[2]) is Action.CONTINUE


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_no_number_is_the_worst_at_the_early_rung(loss):
    policy = early()
    assert first_action(policy, 0, 0.3, loss=loss) is Action.CONTINUE  # the first one there
    assert first_action(policy, 1, 0.3, loss=loss) is Action.CONTINUE  # no worse than all others
    assert first_action(policy, 2, 0.3, loss=1e30) is Action.CONTINUE
    assert first_action(policy, 3, 0.3, loss=loss) is Action.STOP
    assert first_action(policy, 4, 0.3, loss=1e30) is Action.CONTINUE


def test_without_reports_within_the_first_epoch_the_early_rung_changes_nothing():
    trials = random_trials(5, 60, 20)
    runs = [
        simulate(trials, PEERS[name](20, "max", 0), 8, "max") for name in ("asha-4", "asha-early")
    ]
    assert runs[0] == runs[1]


def test_with_reports_within_the_first_epoch_the_early_rung_stops_some_there():
    trials = random_trials(5, 60, 20, reports_per_epoch=4)
    plain, early = (
        simulate(trials, PEERS[name](20, "max", 0), 8, "max") for name in ("asha-4", "asha-early")
    )
    assert min(plain.epochs.values()) == 1
    assert sorted({epoch for epoch in early.epochs.values() if epoch < 1}) == [0.25]
    assert early.total_epochs < plain.total_epochs
