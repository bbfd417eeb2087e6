"""What becomes of a trial whose process is gone, by what Ray says of it."""

from __future__ import annotations

import optuna
import pytest
from curve_trials import report_at, space
from optuna.pruners import ThresholdPruner
from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError

from tuner.engine.bridge import StudyBridge
from tuner.engine.deaths import ActorLost, death_of
from tuner.engine.losses import Losses
from tuner.study.pruners import make_pruner

GONE = ActorUnavailableError("Socket closed", None)


def bridge_of(pruner, *, num_trials=40, **fields):
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(pruner, None, 8, 0), study_name="losses"
    )
    return StudyBridge(study, space, metric="score", num_trials=num_trials, max_epochs=8, **fields)


@pytest.fixture
def bridge():
    return bridge_of("none")


def start(bridge):
    """Start a trial; return its number, and a function that reports one of its epochs."""
    suggestion = bridge.ask()
    config = {**suggestion.config, "max_epochs": 8}
    return suggestion.number, lambda epoch: bridge.report(
        suggestion.number, report_at(epoch, config)
    )


def test_a_trial_that_lost_its_node_is_the_next_to_run_and_reports_nothing_twice(bridge):
    number, report = start(bridge)
    report(1)
    bridge.checkpointed(number, "trial-00000/checkpoint_000000")
    bridge.interrupt(number, "its node died")
    assert bridge.live == 0
    again = bridge.ask()
    assert (again.number, again.checkpoint) == (number, "trial-00000/checkpoint_000000")
    before = bridge.study.trials[number].intermediate_values
    report(1)
    assert bridge.study.trials[number].intermediate_values == before
    assert bridge.ask().number == number + 1
    assert bridge.ended == 0


def test_a_study_is_not_over_while_an_interrupted_trial_is_to_run():
    bridge = bridge_of("none", num_trials=1)
    number, _ = start(bridge)
    assert bridge.exhausted
    bridge.interrupt(number, "its node died")
    assert not bridge.exhausted


def test_a_trial_that_was_pruned_when_its_node_went_stays_pruned():
    bridge = bridge_of(ThresholdPruner(lower=5.0))
    number, report = start(bridge)
    assert report(1)
    bridge.interrupt(number, "its node died")
    trial = bridge.study.trials[number]
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs["reason"]


def test_a_trial_on_its_way_to_wait_waits_without_its_node():
    bridge = bridge_of("rotation", may_wait=True)
    numbers = []
    for _ in range(20):
        number, report = start(bridge)
        if report(1) and bridge.is_pausing(number):
            numbers.append(number)
            bridge.interrupt(number, "its node died")
            assert not bridge.is_pausing(number)
    assert numbers
    assert {bridge.study.trials[number].state.name for number in numbers} == {"RUNNING"}


def test_a_trial_that_loses_node_after_node_fails_in_the_end(bridge):
    losses = Losses(bridge)
    for _ in range(10):
        number, _ = start(bridge)
        losses.crashed(number, GONE)
        assert bridge.study.trials[0].state.name == "RUNNING"
        assert number == 0
    start(bridge)
    losses.crashed(0, GONE)
    trial = bridge.study.trials[0]
    assert trial.state.name == "FAIL"
    assert (
        "11 nodes went while it ran, the last time its node stopped" in trial.user_attrs["reason"]
    )
    assert start(bridge)[0] == 1


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (GONE, "node"),
        (ActorLost(NodeDiedError("gone")), "node"),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), "memory"),
        (ActorLost(OutOfMemoryError("low on memory")), "memory"),
        (ValueError("a mistake"), "trial"),
        (None, "trial"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_whose_fault_it_was(error, fault):
    assert death_of(error).fault == fault
