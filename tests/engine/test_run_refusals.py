"""Jobs that cannot be run are refused in one line, and leave nothing behind."""

from __future__ import annotations

import math
import sys

import optuna
import pytest
from curve_trials import Curve, space
from optuna.pruners import PatientPruner
from ray import cloudpickle

from tuner import InvalidInput, RotationPruner, RotationTarget, load_study, resume, run
from tuner.engine.callbacks import RunCallback
from tuner.storage.journal import read_journal
from tuner.study.folder import StudyFolder, open_for_writing

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class NoData(Curve):
    """Trains until trial `bad_from`, then finds its data missing."""

    def report(self):
        if self.number >= self.config.get("bad_from", 0):
            raise InvalidInput("the data must be there, got nothing; use --data DIR")
        return super().report()


class OddMetric(Curve):
    def report(self):
        return {**super().report(), "score": "high"}


def narrower(trial):
    return {**space(trial), "turn": trial.suggest_float("more", 0, 1)}


def raises(trial):
    trial.suggest_float("turn", 0, 1)
    raise KeyError("lr")


def refused(job) -> str:
    """Run a job that is refused, and return the one line that says why."""
    with pytest.raises(InvalidInput) as caught:
        run(job, observer=RunCallback())
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "accuracy"}, "'accuracy' was not among: score, train_loss"),
        ({"trainable": NoData}, "the data must be there, got nothing; use --data DIR"),
        ({"trainable": OddMetric}, "the metric must be a number, 'score' was 'high'"),
        (
            {"gpus_per_trial": 99.0},
            "--gpus-per-trial must be at most the [0-9]+ GPUs? that one node has, got 99",
        ),
        (
            {"cpus_per_trial": 3.0},
            "--cpus-per-trial must be at most the 2 CPUs that one node has, got 3; there are",
        ),
        ({"search_space": raises}, "raises raised KeyError"),
        ({"search_space": lambda trial: {}}, "suggested nothing"),
        ({"storage": "nonsense"}, "storage must be the URL of a database"),
        ({"storage": "sqlite:////nowhere/to/be/found.db"}, "storage must be the URL"),
    ],
    ids=[
        "metric never reported",
        "data missing",
        "metric not a number",
        "too many GPUs",
        "too many CPUs",
        "space raises",
        "space suggests nothing",
        "no URL",
        "no database there",
    ],
)
def test_a_job_that_cannot_run_leaves_nothing(make_job, tmp_path, fields, message):
    import re

    line = refused(make_job(**fields))
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays(make_job):
    job = make_job(metric="accuracy")
    job.folder.mkdir()
    refused(job)
    assert list(job.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(make_job, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    line = refused(make_job(folder=file / "studies"))
    assert "the output folder must be writable" in line
    assert str(file) in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture(scope="module")
def finished(two_cpus, tmp_path_factory):
    from tuner import TuningJob

    job = TuningJob(
        name="study",
        trainable=Curve,
        search_space=space,
        num_trials=2,
        max_epochs=3,
        pruner="none",
        sampler="random",
        folder=tmp_path_factory.mktemp("finished"),
    )
    return job, run(job, observer=RunCallback())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_space": narrower}, "a study keeps its search space, 'study' was given another"),
        ({"metric": "train_loss"}, "keeps its metric, .* 'train_loss' where it has 'score'"),
        ({"mode": "min"}, "keeps its mode, .* 'min' where it has 'max'"),
        ({"max_epochs": 4}, "keeps its epochs per trial, .* 4 where it has 3"),
        (
            {"rotation_target": RotationTarget(0.6, head=0.5)},
            r"a study keeps its rotation target, 'study' was given distance=0.6, head=0.5 where "
            r"it has distance=1.0, head=None; choose another name, or remove ",
        ),
        (
            {"pruner": RotationPruner(RotationTarget(0.6))},
            "was given distance=0.6 where it has distance=1.0",
        ),
    ],
    ids=["space", "metric", "mode", "epochs", "target", "the pruner's target"],
)
def test_another_job_under_the_same_name_is_refused(finished, changes, message):
    job, result = finished
    with pytest.raises(InvalidInput, match=message):
        run(job.with_changes(**changes), observer=RunCallback())
    assert load_study(job.name, folder=job.folder) == result


def test_a_study_that_was_interrupted_before_its_first_trial_takes_any_job(make_job):
    job = make_job()
    home = StudyFolder(job.folder / job.name)
    home.path.mkdir(parents=True)
    with open_for_writing(home, None) as storage:
        empty = optuna.create_study(study_name=job.name, storage=storage, direction="maximize")
        empty.set_user_attr("metric", "accuracy")
        empty.set_user_attr("max_epochs", 99)
    result = run(job, observer=RunCallback())
    assert (result.metric, result.max_epochs, len(result.trials)) == ("score", 9, 3)


def test_a_resumed_study_keeps_its_rotation_target(make_job):
    target = RotationTarget(0.6, patterns={"last": 0.25})
    job = make_job(num_trials=1, max_epochs=3, rotation_target=target)
    assert run(job, observer=RunCallback()).rotation_target == target
    other = r"distance=0\.5, .* where it has distance=0\.6, patterns"
    with pytest.raises(InvalidInput, match=other):
        resume(job.name, folder=job.folder, rotation_target=RotationTarget(0.5))
    result = resume(job.name, folder=job.folder, observer=RunCallback(), num_trials=2)
    assert result.rotation_target == target
    assert len(result.trials) == 2


def test_a_pruner_without_a_target_judges_by_the_jobs(make_job):
    target = RotationTarget(0.6)
    pruner = RotationPruner(warmup_epochs=2)
    job = make_job(num_trials=1, max_epochs=5, rotation_target=target, pruner=pruner)
    result = run(job, observer=RunCallback())
    assert (result.rotation_target, result.warmup_epochs) == (target, 2)
    assert pruner.state(_opened(job)).config.target == target


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_pruner_that_another_one_wraps_gives_its_target(make_job):
    pruner = PatientPruner(RotationPruner(RotationTarget(0.6), max_epochs=5), patience=1)
    job = make_job(num_trials=1, max_epochs=5, pruner=pruner)
    assert run(job, observer=RunCallback()).rotation_target == RotationTarget(0.6)
    resume(job.name, folder=job.folder, observer=RunCallback(), num_trials=2)


def test_a_study_of_an_older_version_takes_the_target_of_its_next_run(make_job):
    job = make_job(num_trials=1, max_epochs=3)
    run(job, observer=RunCallback())
    old = _opened(job)
    home = StudyFolder(job.folder / "old")
    home.path.mkdir()
    with open_for_writing(home, None) as written:
        study = optuna.create_study(study_name="old", storage=written, direction="maximize")
        for key, value in old.user_attrs.items():
            if key not in ("rotation_target", "warmup_epochs"):
                study.set_user_attr(key, value)
        study.add_trials(old.trials)
    assert load_study("old", folder=job.folder).rotation_target == RotationTarget()
    other = job.with_changes(name="old", rotation_target=RotationTarget(0.6), num_trials=2)
    result = run(other, observer=RunCallback())
    assert (result.rotation_target, len(result.trials)) == (RotationTarget(0.6), 2)


def _opened(job) -> optuna.Study:
    storage = read_journal(StudyFolder(job.folder / job.name).journal)
    return optuna.load_study(study_name=job.name, storage=storage)


def test_the_same_job_does_nothing_more(finished):
    job, result = finished
    assert run(job, observer=RunCallback()) == result


def test_more_trials_continue_the_same_study(finished):
    job, result = finished
    longer = resume(job.name, folder=job.folder, observer=RunCallback(), num_trials=4)
    assert longer.trials[:2] == result.trials
    assert [trial.state for trial in longer.trials] == ["complete"] * 4
    assert len({trial.params["turn"] for trial in longer.trials}) == 4
    # The same four as if they had been asked for at once.
    whole = run(job.with_changes(name="whole", num_trials=4), observer=RunCallback())
    assert [trial.params for trial in whole.trials] == [trial.params for trial in longer.trials]


def test_a_study_that_does_not_exist_cannot_be_resumed(finished):
    job, _ = finished
    with pytest.raises(InvalidInput, match="unknown study 'stud'; known: study"):
        resume("stud", folder=job.folder)


def test_a_trial_that_crashes_is_not_the_end(make_job):
    class Unlucky(Curve):
        def report(self):
            if self.number == 1:
                raise OSError("no space left")
            return super().report()

    result = run(make_job(trainable=Unlucky), observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete", "failed", "complete"]
    assert result.trials[1].reason.startswith(
        "OSError: no space left. In test_run_refusals.py line "
    )
    assert math.isnan(result.trials[1].value)
