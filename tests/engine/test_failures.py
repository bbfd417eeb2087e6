"""What becomes of a trial whose process is gone, by what Ray says of it."""

from __future__ import annotations

import optuna
import pytest
from curve_trials import report_at, space
from lost_nodes import Somewhere, somewhere, steps
from optuna.pruners import ThresholdPruner
from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError

from tuner import run
from tuner.engine.callbacks import RunCallback
from tuner.engine.failures import ActorLost, FailureHandler, failure_cause
from tuner.engine.trial_manager import TrialManager
from tuner.rotation import Action
from tuner.study.pruners import make_pruner

GONE = ActorUnavailableError("Socket closed", None)


def bridge_of(pruner, *, num_trials=40, **fields):
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(pruner, None, 8, 0), study_name="losses"
    )
    return TrialManager(study, space, metric="score", num_trials=num_trials, max_epochs=8, **fields)


@pytest.fixture
def manager():
    return bridge_of("none")


def start(manager):
    """Start a trial; return its number, and a function that reports one of its epochs."""
    suggestion = manager.ask()
    config = {**suggestion.config, "max_epochs": 8}
    return suggestion.number, lambda epoch: manager.report(
        suggestion.number, report_at(epoch, config)
    )


def test_a_trial_that_lost_its_node_is_the_next_to_run_and_reports_nothing_twice(manager):
    number, report = start(manager)
    report(1)
    manager.checkpointed(number, "trial-00000/checkpoint_000000")
    manager.interrupt(number, "its node died")
    assert manager.num_running == 0
    again = manager.ask()
    assert (again.number, again.checkpoint) == (number, "trial-00000/checkpoint_000000")
    before = manager.study.trials[number].intermediate_values
    report(1)
    assert manager.study.trials[number].intermediate_values == before
    assert manager.ask().number == number + 1
    assert not any(trial.state.is_finished() for trial in manager.study.trials)


def test_a_study_is_not_over_while_an_interrupted_trial_is_to_run():
    manager = bridge_of("none", num_trials=1)
    number, _ = start(manager)
    assert manager.exhausted
    manager.interrupt(number, "its node died")
    assert not manager.exhausted


def test_a_trial_that_was_pruned_when_its_node_went_stays_pruned():
    manager = bridge_of(ThresholdPruner(lower=5.0))
    number, report = start(manager)
    assert report(1).action is Action.STOP
    manager.interrupt(number, "its node died")
    trial = manager.study.trials[number]
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs["reason"]


def test_a_trial_on_its_way_to_wait_waits_without_its_node():
    manager = bridge_of("rotation", may_pause=True)
    numbers = []
    for _ in range(20):
        number, report = start(manager)
        if report(1).action is Action.PAUSE:
            numbers.append(number)
            running = manager.num_running
            manager.interrupt(number, "its node died")
            assert manager.num_running == running - 1
    assert numbers
    assert {manager.study.trials[number].state.name for number in numbers} == {"RUNNING"}


def test_a_trial_that_loses_node_after_node_fails_in_the_end(manager):
    losses = FailureHandler(manager)
    for _ in range(10):
        number, _ = start(manager)
        losses.crashed(number, GONE)
        assert manager.study.trials[0].state.name == "RUNNING"
        assert number == 0
    start(manager)
    losses.crashed(0, GONE)
    trial = manager.study.trials[0]
    assert trial.state.name == "FAIL"
    assert "11 nodes were lost while it ran, the last time its node" in trial.user_attrs["reason"]
    assert start(manager)[0] == 1


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
    assert failure_cause(error).fault == fault


@pytest.mark.usefixtures("two_cpus")
def test_a_process_that_dies_alone_fails_its_trial_with_a_reason(make_job, tmp_path):
    job = make_job(
        trainable=Somewhere,
        search_space=lambda trial: {
            **somewhere(tmp_path / "where", 0.0)(trial),
            "dies_at": 2 if trial.number == 1 else 0,
        },
        num_trials=3,
        max_epochs=3,
    )
    result = run(job, observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete", "failed", "complete"]
    reason = result.trials[1].reason
    pid = [step.pid for step in steps(tmp_path / "where") if step.trial == 1][-1]
    assert f"its process died: process {pid} on " in reason
    assert "was killed or crashed" in reason
    assert "kernel log" in reason
    assert "\n" not in reason
