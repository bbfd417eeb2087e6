"""TuningJob: every field is checked once, and a mistake is one line with the remedy."""

from __future__ import annotations

import math
import pickle
import traceback
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.rotation import RotationTarget


class Loss:
    """A trainable that knows what it reports."""

    metric = "val_loss"
    mode = "min"


def train(config: dict[str, Any]) -> None:
    """A function trainable, which does not."""


def space(trial: optuna.Trial) -> dict[str, Any]:
    return {"lr": trial.suggest_float("lr", 0, 1)}


def job(**fields: Any) -> TuningJob:
    given = {"name": "test", "trainable": train, "search_space": space, "metric": "val_accuracy"}
    return TuningJob(**{**given, **fields})


class TestMode:
    @pytest.mark.parametrize(("metric", "mode"), [("val_loss", "min"), ("f1", "max")])
    def test_left_out_it_is_what_the_metrics_name_implies(self, metric, mode):
        assert job(metric=metric).mode == mode
        assert job(trainable=Loss, metric=metric).mode == mode

    def test_given_it_comes_before_the_name(self):
        assert job(metric="val_loss", mode="max").mode == "max"

    def test_the_trainables_own_holds_for_its_own_metric_only(self):
        class Odd(Loss):
            metric = "speed"
            mode = "max"

        assert job(trainable=Odd, metric=None).mode == "max"
        assert job(trainable=Odd, metric="val_loss").mode == "min"

    def test_another_metric_has_another_mode(self):
        assert job().with_changes(metric="val_loss").mode == "min"
        assert job(mode="min").with_changes(num_trials=3).mode == "min"
        assert job(mode="min").with_changes(metric="f1", mode="min").mode == "min"

    def test_it_must_be_given_where_the_name_does_not_tell_it(self):
        with pytest.raises(
            InvalidInput, match=r"mode must be given for the metric .speed., .*--mode max"
        ):
            job(metric="speed")
        assert job(metric="speed", mode="max").mode == "max"


class TestDefaults:
    def test_what_is_left_out_has_its_documented_default(self):
        made = job()
        assert (made.mode, made.num_trials, made.max_epochs) == ("max", 50, 20)
        assert (made.pruner, made.sampler, made.seed) == ("rotation", "tpe", 0)
        assert (made.cpus_per_trial, made.gpus_per_trial, made.max_concurrent) == (1.0, 0.0, None)
        assert (made.data_dir, made.storage) == (None, None)
        assert made.rotation_target == RotationTarget()

    def test_metric_and_mode_are_the_trainables_own(self):
        made = job(trainable=Loss, metric=None)
        assert (made.metric, made.mode) == ("val_loss", "min")

    def test_epochs_are_the_trainables_own_unless_given(self):
        class Task(Loss):
            epochs = 15

        assert job(trainable=Task).max_epochs == 15
        assert job(trainable=Task, max_epochs=3).max_epochs == 3
        assert job(trainable=Task, max_epochs=3).with_changes(num_trials=2).max_epochs == 3

    def test_what_is_given_comes_before_the_trainables_own(self):
        made = job(trainable=Loss, metric="f1", mode="max")
        assert (made.metric, made.mode) == ("f1", "max")


BAD = [
    ({"name": ""}, "name must be letters, digits, .*, got ''; see "),
    ({"name": "a/b"}, "name must be letters, digits, .*, got 'a/b'; see "),
    ({"name": "../up"}, "name must be letters, .* start with a letter or digit, got '../up'; "),
    ({"name": "line\n"}, r"name must be letters, digits, .*, got 'line\\n'; see "),
    ({"name": None}, "name must be .*, got None; see "),
    ({"trainable": None}, "trainable must be a class trainable or a function, got None; see "),
    ({"trainable": "digits"}, "trainable must be a class .*, got 'digits'; see "),
    ({"search_space": [1]}, "search_space must be a function of a trial or a dict, got .1.; see "),
    ({"search_space": None}, "search_space must be a function .*, got None; see "),
    ({"metric": ""}, "metric must name a key .* 'val_accuracy', got ''; see "),
    ({"metric": 5}, "metric must be a valid string, got 5; see "),
    ({"mode": "MAX"}, "mode must be 'min'.* 'max'.*, got 'MAX'; see "),
    ({"num_trials": 0}, "num_trials must be >= 1, got 0; leave it out for 50"),
    ({"num_trials": "many"}, "num_trials must be a valid integer.*, got 'many'; leave it out for"),
    ({"num_trials": 1.5}, "num_trials must be a valid integer.*, got 1.5; leave it out for 50"),
    ({"max_epochs": 0}, "max_epochs must be >= 1, got 0; leave it out for 20"),
    ({"max_epochs": math.inf}, "max_epochs must be a finite number, got inf; leave it out for 20"),
    ({"rotation_target": 5}, "rotation_target must be .* RotationTarget, got 5; see "),
    ({"rotation_target": {"distance": 3}}, r"distance must be in \(0, 2\], got 3.0; use 1.0"),
    ({"pruner": "rotaton"}, "unknown pruner 'rotaton'; known: rotation, "),
    ({"pruner": 5}, "pruner must be .*, got 5; leave it out for 'rotation'"),
    ({"pruner": optuna.pruners.NopPruner}, "pruner must be .*, got <class .*NopPruner'>; leave it"),
    ({"sampler": "tp"}, "unknown sampler 'tp'; known: tpe, "),
    ({"sampler": 5}, "sampler must be .*, got 5; leave it out for 'tpe'"),
    ({"seed": -1}, "seed must be >= 0, got -1; leave it out for 0"),
    ({"cpus_per_trial": -1}, "cpus_per_trial must be >= 0.*, got -1; leave it out for 1.0"),
    ({"cpus_per_trial": math.nan}, "cpus_per_trial must be .*, got nan; leave it out for 1.0"),
    (
        {"cpus_per_trial": 0},
        "a trial must reserve .*, got none of either; leave cpus_per_trial out",
    ),
    ({"cpus_per_trial": 0, "gpus_per_trial": 0}, "a trial must reserve .*, got none of either; "),
    ({"gpus_per_trial": -0.5}, "gpus_per_trial must be >= 0.*, got -0.5; leave it out for 0.0"),
    ({"gpus_per_trial": 1.5}, "gpus_per_trial must be whole above 1, got 1.5; leave it out"),
    ({"gpus_per_trial": math.inf}, "gpus_per_trial must be a finite number, got inf; leave it out"),
    ({"max_concurrent": 0}, "max_concurrent must be >= 1, got 0; see "),
    ({"data_dir": 5}, "data_dir must be .*, got 5; see "),
    ({"memory_gb_per_trial": -1}, "memory_gb_per_trial must be >= 0.*, got -1; leave it out"),
    ({"node_labels": ["gpu"]}, r"node_labels must be .* dictionary, got \['gpu'\]; see "),
    ({"resources_per_trial": {"CPU": 1}}, "resources_per_trial must name custom resources; for "),
    ({"resources_per_trial": {"licence": 0}}, "resources_per_trial must hold amounts > 0, got "),
    ({"checkpoints": 5}, "checkpoints must be a folder or a URL such as s3://bucket/path, got 5;"),
    ({"checkpoints": ""}, "checkpoints must be a folder or a URL"),
    ({"checkpoints": "s3://"}, "the URL of a place for checkpoints must name a bucket"),
    ({"checkpoints": "s3://key:hunter2@bucket"}, "the URL of a place .* must not hold credentials"),
    ({"storage": 5}, "storage must be .*, got 5; see "),
    ({"folder": 5}, "folder .*path.*, got 5; see "),
    ({"num_trails": 5}, "unknown TuningJob field 'num_trails'; known: num_trials, "),
    ({"epochs": 5}, "unknown TuningJob field 'epochs'; known: max_epochs, "),
]


@pytest.mark.parametrize(("field", "told"), BAD, ids=[" ".join(field) for field, _ in BAD])
def test_a_mistake_is_one_line_with_rule_value_and_remedy(field, told):
    with pytest.raises(InvalidInput, match=f"^{told}") as caught:
        job(**field)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["name", "trainable", "search_space"])
def test_what_has_no_default_must_be_given(field):
    given = {"name": "test", "trainable": train, "search_space": space, "metric": "val_accuracy"}
    del given[field]
    with pytest.raises(InvalidInput, match=f"must have {field}, got none; add {field}=\\.\\.\\."):
        TuningJob(**given)


def test_a_metric_is_needed_where_the_trainable_names_none():
    with pytest.raises(InvalidInput, match="metric must name a key that the trainable reports"):
        TuningJob(name="test", trainable=train, search_space=space)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "A.b-c_9"},
        {"name": "0"},
        {"num_trials": 1, "max_epochs": 1, "max_concurrent": 1},
        {"gpus_per_trial": 0.5},
        {"gpus_per_trial": 2},
        {"cpus_per_trial": 0, "gpus_per_trial": 1},
        {"cpus_per_trial": 0.25},
        {"pruner": optuna.pruners.NopPruner(), "sampler": optuna.samplers.RandomSampler()},
        {"search_space": {"lr": 0.1}},
        {"memory_gb_per_trial": 1.5, "node_labels": {"gpu": "in(H200,A100)"}},
        {"resources_per_trial": {"licence": 0.5}},
        {"checkpoints": "/somewhere"},
        {"checkpoints": Path("/somewhere")},
        {"checkpoints": "s3://bucket/path?region=eu-west-1"},
        {"folder": "somewhere"},
        {"data_dir": "somewhere"},
        {"data_dir": Path("somewhere")},
    ],
    ids=" ".join,
)
def test_what_is_allowed_is_taken(fields):
    made = job(**fields)
    for name, value in fields.items():
        taken = getattr(made, name)
        assert taken == value or str(taken) == str(value)


def test_a_job_cannot_be_changed():
    made = job()
    with pytest.raises(ValidationError, match="frozen"):
        made.num_trials = 3
    assert made.num_trials == 50


class TestWithChanges:
    def test_it_returns_another_job_and_leaves_this_one(self):
        made = job(seed=3)
        changed = made.with_changes(num_trials=7, folder="elsewhere")
        assert (made.num_trials, changed.num_trials) == (50, 7)
        assert changed.folder == Path("elsewhere")
        assert changed.with_changes(num_trials=50, folder=made.folder) == made

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"num_trials": 0}, "num_trials must be >= 1, got 0"),
            ({"gpus_per_trial": 1.5}, "gpus_per_trial must be whole above 1"),
            ({"trials": 3}, "unknown TuningJob field 'trials'; known: num_trials"),
        ],
    )
    def test_a_change_is_checked_like_a_new_job(self, changes, told):
        with pytest.raises(InvalidInput, match=f"^{told}"):
            job().with_changes(**changes)

    def test_without_changes_it_is_the_same(self):
        assert job().with_changes() == job()


def test_a_secret_is_in_no_traceback():
    secret = "hunter" + str(2)  # not as it would stand in a traceback's line of this file
    with pytest.raises(InvalidInput) as caught:
        job(checkpoints=f"s3://key:{secret}@bucket")
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_relative_folder_for_checkpoints_counts_from_where_the_job_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = job(checkpoints="shared")
    monkeypatch.chdir("/")
    assert made.with_changes(num_trials=3).checkpoints == str(tmp_path / "shared")


def test_a_job_kept_before_a_field_was_added_has_its_default():
    made = job(num_trials=7)
    for later in ("checkpoints", "node_labels", "resources_per_trial", "memory_gb_per_trial"):
        del made.__dict__[later]
    assert made.with_changes() == job(num_trials=7)


def test_a_job_can_be_kept_in_a_file():
    made = job(trainable=Loss, num_trials=7, rotation_target=RotationTarget(distance=0.5))
    assert pickle.loads(pickle.dumps(made)) == made
