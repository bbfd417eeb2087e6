"""A study begins with a ladder of rotations, run whole; the sampler goes on from there."""

from __future__ import annotations

import sys

import pytest
from curve_trials import Curve, Interrupting
from ray import cloudpickle

from tuner import resume, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def space(trial):
    """Those that turn far by Layca do worst, so that nothing but the start speaks for them."""
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "layca"])
    if optimizer == "sgd":
        height = trial.suggest_float("height", 0.8, 1.0)
        return {"optimizer": optimizer, "height": height, "speed": 0.5, "turn": 0.5}
    distance = trial.suggest_float("final_distance", 0.05, 0.98)
    return {
        "optimizer": optimizer,
        "final_distance": distance,
        "height": 0.7 - 0.3 * distance,
        "speed": 0.5,
        "turn": distance,
    }


def only_layca(trial):
    """The ladder's lowest rung does better than almost all that lies between the others."""
    distance = trial.suggest_float("final_distance", 0.05, 0.98)
    height = 0.9 if distance == 0.3 else 0.7 - 0.3 * distance
    return {
        "optimizer": "layca",
        "final_distance": distance,
        "height": height,
        "speed": 0.5,
        "turn": distance,
    }


def test_the_first_trials_run_whole_whatever_their_peers_do(make_job):
    job = make_job(search_space=space, num_trials=12, pruner="rotation", sampler="tpe")
    result = run(job, observer=RunCallback())
    assert result.finished
    first = [trial for trial in result.trials if trial.start]
    assert [trial.params["final_distance"] for trial in first][:3] == [0.95, 0.6, 0.3]
    assert {(trial.state, trial.epochs) for trial in first} == {("complete", 9.0)}
    assert any(trial.state == "pruned" for trial in result.trials if not trial.start)
    assert all(
        trial.params["final_distance"] < 0.3 for trial in first if trial.start.startswith("refined")
    )


def test_another_start_leaves_all_to_the_sampler(make_job):
    job = make_job(search_space=space, num_trials=4, sampler="tpe", start="random", max_epochs=2)
    assert not any(trial.start for trial in run(job, observer=RunCallback()).trials)


def test_an_interrupted_ladder_is_gone_on_with(make_job):
    job = make_job(
        trainable=Curve, search_space=only_layca, num_trials=7, sampler="tpe", max_concurrent=1
    )
    before = run(job, observer=Interrupting(1, 2))
    assert not before.finished
    result = resume(job.name, folder=job.folder, observer=RunCallback())
    starts = [trial.start.partition(":")[0] for trial in result.trials]
    assert starts == [*["ladder"] * 3, *[""] * 3, "refined"]
    whole = run(job.with_changes(name="whole"), observer=RunCallback())
    assert [trial.params for trial in result.trials] == [trial.params for trial in whole.trials]
