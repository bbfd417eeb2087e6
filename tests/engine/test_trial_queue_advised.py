"""Trials that test advice: run as they were enqueued, wherever in the space or outside of it."""

from __future__ import annotations

import json
import re
import sys

import pytest
from click.testing import CliRunner
from curve_trials import Curve, Interrupting, space
from ray import cloudpickle

from trainables import DigitsMlp
from tuner import InvalidInput, load_study, resume, run
from tuner.cli import cli
from tuner.engine.callbacks import RunCallback
from tuner.study.enqueue import QueuedTrial, enqueue
from tuner.study.folder import StudyFolder

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

BEYOND = {"height": 1.4, "speed": 1.5, "turn": 1.0}


class NotTooHigh(Curve):
    """Takes no height above 2."""

    def report(self):
        if self.config["height"] > 2:
            raise InvalidInput(f"height must be <= 2, got {self.config['height']}; lower it")
        return super().report()


def not_too_fast(trial):
    config = space(trial)
    if config["speed"] > 2:
        raise ValueError("too fast")
    return config


def test_outside_of_the_space_they_run_as_they_are_and_the_sampler_goes_on(make_job):
    job = make_job(sampler="gp", num_trials=4, max_epochs=2)
    run(job, observer=RunCallback())
    enqueue(StudyFolder(job.folder / job.name), [QueuedTrial("further", BEYOND)])
    result = resume(job.name, folder=job.folder, observer=RunCallback(), num_trials=8)
    assert result.finished
    assert [trial.state for trial in result.trials] == ["complete"] * 8
    assert result.trials[4].params == BEYOND
    assert [trial.number for trial in result.trials if trial.advice] == [4]
    assert all(0.3 <= trial.params["height"] <= 1.0 for trial in result.trials[5:])
    assert result.best.number == 4


def test_those_that_cannot_be_run_fail_alone(make_job):
    job = make_job(trainable=NotTooHigh, search_space=not_too_fast, num_trials=1, max_epochs=2)
    run(job, observer=RunCallback())
    wanted = [{**BEYOND, "height": 2.5}, {**BEYOND, "speed": 3.0}, BEYOND]
    enqueue(
        StudyFolder(job.folder / job.name), [QueuedTrial("further", params) for params in wanted]
    )
    # They are run although no more trials are asked for.
    result = resume(job.name, folder=job.folder, observer=RunCallback())
    states = [trial.state for trial in result.trials]
    assert states == ["complete", "failed", "failed", "complete"]
    assert "height must be <= 2, got 2.5" in result.trials[1].reason
    assert "ValueError: too fast" in result.trials[2].reason


def turning(trial):
    """Layca, whose layers all turn alike: no parameter sets their rates."""
    distance = trial.suggest_float("final_distance", 0.3, 0.9)
    return {"optimizer": "layca", "final_distance": distance, "checkpoint_every_s": 0}


@pytest.mark.parametrize("kept_in", ["file", "database"])
def test_their_config_goes_over_the_spaces_and_holds_when_they_are_interrupted(
    make_job, tmp_path, kept_in
):
    url = f"sqlite:///{tmp_path}/study.db" if kept_in == "database" else None
    job = make_job(trainable=DigitsMlp, search_space=turning, num_trials=1, max_epochs=2)
    job = job.with_changes(metric="val_accuracy", max_concurrent=1, storage=url)
    first = run(job, observer=RunCallback()).trials[0]
    held, unknown = ({"layer_rates": {name: 0}} for name in ("hidden1*", "hidden7*"))
    wanted = [QueuedTrial("rates", first.params, config) for config in (held, unknown, {})]
    home = StudyFolder(job.folder / job.name)
    assert enqueue(home, wanted).numbers == (1, 2)  # as it was, it is known
    part = resume(job.name, folder=job.folder, observer=Interrupting(1, 1))
    assert (part.trials[1].state, part.trials[1].epochs) == ("running", 1)
    result = resume(job.name, folder=job.folder, observer=RunCallback())
    same, failed = result.trials[1:]
    assert (same.state, same.epochs, same.config) == ("complete", 2, held)
    assert same.params == first.params
    assert same.optimizer == first.optimizer == "layca"
    turned = {name: round(distance, 2) for name, distance in same.rotation.items()}
    assert turned["hidden1.weight"] == 0 < first.rotation["hidden1.weight"]
    assert turned["hidden2.weight"] > 0.1
    assert failed.state == "failed"
    assert re.fullmatch(
        r"layer_rates pattern 'hidden7\*' matches no layer; known: hidden1.weight.*",
        failed.reason,
    )


def too_low(trial):
    """The rates that train these nets well are above the range: the best trials are at its top."""
    return {"lr": trial.suggest_float("lr", 1e-5, 1e-2, log=True), "momentum": 0.9}


def test_advice_is_told_enqueued_run_and_held_against_the_others(make_job):
    job = make_job(
        name="low",
        trainable=DigitsMlp,
        search_space=too_low,
        metric="val_accuracy",
        num_trials=16,
        max_epochs=2,
        seed=1,
    )
    run(job, observer=RunCallback())

    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, [*arguments, "--folder", str(job.folder)])
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else str(done.exception)

    told = said("advise", "low")
    assert "the best lr is at the upper end of its range: widen it" in told
    assert re.search(r"why: 3 of the best 3 trials .* at the upper end of 1e-05 to 0\.01", told)
    pieces = json.loads(said("advise", "low", "--json"))
    assert all(
        piece.keys() == {"title", "evidence", "action", "params", "config"} for piece in pieces
    )
    (beyond,) = [piece["params"]["lr"] for piece in pieces if "end of its range" in piece["title"]]
    assert beyond > 1e-2

    with StudyFolder(job.folder / "low").locked():
        refused = said("advise", "low", "--enqueue", "1", code=1)
    assert "'low' is being run by another" in refused
    put = CliRunner().invoke(cli, ["advise", "low", "--enqueue", "9", "--folder", str(job.folder)])
    count = sum(piece["params"] is not None for piece in pieces)
    assert f"enqueued {count} (trial 16" in put.stderr
    assert f"to run: quarterturn resume low --trials {16 + count}" in put.stderr

    assert "the others: the advice helped" in said("resume", "low", "--trials", str(16 + count))
    line = f"trials that test advice: {count} of {count} have ended; the best, trial 1"
    assert re.search(
        rf"{line}\d \(.+\), has val_accuracy 0\.\d+, 0\.\d+ better than .+: the advice helped",
        said("report", "low"),
    )
    assert beyond in [trial.params["lr"] for trial in load_study("low", folder=job.folder).trials]
    shown = json.loads(said("report", "low", "--json"))["advised"]
    assert (shown["trials"], shown["gain"] > 0) == (count, True)
