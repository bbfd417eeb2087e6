"""What is wrong with one trial fails that trial; nothing that was trained is lost."""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from curve_trials import Curve, space
from optuna.pruners import NopPruner
from ray import cloudpickle

from tuner import InvalidInput, load_study, resume, run
from tuner.engine.callbacks import RunCallback
from tuner.engine.trial_error import TrialError
from tuner.study.folder import StudyFolder

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

LATE = 8


class Faulty(Curve):
    """Does what its config says from trial `from` on, at the epoch `at`."""

    def report(self):
        report = super().report()
        config = self.config
        if self.number >= config.get("from", 99) and self.epoch >= config.get("at", 1):
            return self.spoiled(report)
        return report

    def spoiled(self, report):
        fault = self.config["fault"]
        if fault == "refused":
            raise InvalidInput("batch_size must be >= 1, got 0; use 32")
        if fault == "no metric":
            del report["score"]
        elif fault == "other layers":
            report["rotation/new"] = 0.1
        elif fault in report:
            report[fault] = self.config["value"]
        else:
            raise AttributeError(f"'Net' object has no attribute 'layer{self.number}'")
        return report


def faulty(make_job, fault, **fields):
    constants = {"fault": fault, "saves": True, "from": LATE}
    constants.update({key: fields.pop(key) for key in ("value", "at", "from") if key in fields})
    defaults = {"num_trials": 12, "pruner": "rotation", "trainable": Faulty}
    return make_job(
        search_space=lambda trial: {**space(trial), **constants}, **{**defaults, **fields}
    )


def states(result) -> list[str]:
    return [trial.state for trial in result.trials]


@pytest.mark.parametrize(
    ("fault", "fields", "line"),
    [
        ("refused", {"from": 11}, "batch_size must be >= 1, got 0; use 32"),
        ("no metric", {"from": 11}, "every epoch must report the metric, 'score' was not among"),
        ("other layers", {"from": 11, "at": 2}, "must name the same layers"),
        ("score", {"from": 11, "value": "high"}, "the metric must be a number, 'score' was 'high'"),
        ("train_loss", {"from": 11, "value": None}, "train_loss must be a number, got None"),
        ("train_loss", {"from": 11, "value": [0.5]}, r"train_loss must be a number, got \[0.5\]"),
        ("rotation/head", {"from": 11, "value": "far"}, "rotation/head must be a number, got 'far"),
        ("lr_progress", {"from": 11, "value": "x"}, "lr_progress must be a number, got 'x'"),
    ],
)
def test_unusable_input_of_a_late_trial_fails_it_alone(make_job, fault, fields, line):
    result = run(faulty(make_job, fault, pruner=NopPruner(), **fields), observer=RunCallback())
    assert states(result) == ["complete"] * 11 + ["failed"]
    assert re.search(line, result.trials[11].reason)
    assert "\n" not in result.trials[11].reason


def test_a_space_that_raises_late_fails_those_trials_and_the_others_are_ranked(make_job):
    def late(trial):
        config = {**space(trial), "saves": True}
        # Before a study begins, its space is drawn from in a study of another name.
        if trial.number == LATE and trial.study.study_name == "study":
            raise KeyError("lr")
        return config

    job = make_job(trainable=Curve, search_space=late, num_trials=12, pruner="rotation")
    result = run(job, observer=RunCallback())
    assert states(result).count("failed") == 1
    assert "raised KeyError: 'lr'" in result.trials[LATE].reason
    assert result.best.epochs == 9


def test_a_metric_that_is_missing_at_the_end_stops_the_study_and_keeps_all_of_it(make_job):
    job = faulty(make_job, "no metric", **{"from": 0, "at": 9})
    with pytest.raises(InvalidInput, match="the first 3 of 'study' failed alike"):
        run(job, observer=RunCallback())
    kept = load_study("study", folder=job.folder)
    assert len(kept.trials) == 12
    assert "failed" in states(kept)
    mended = faulty(make_job, "none")
    result = run(mended, observer=RunCallback(), retry_failed=True)
    assert result.finished
    assert states(result).count("complete") >= 1
    for before, after in zip(kept.trials, result.trials, strict=False):
        assert after.curve.metric[: len(before.curve)] == before.curve.metric
    assert [trial.retry_of for trial in result.trials if trial.retry_of is not None] == [
        trial.number for trial in kept.trials if trial.state == "failed"
    ]


def test_what_no_trial_can_do_is_refused_and_leaves_nothing(make_job, tmp_path):
    for fault, fields in (("refused", {}), ("score", {"value": "high"})):
        with pytest.raises(InvalidInput):
            run(faulty(make_job, fault, **{"from": 0, **fields}), observer=RunCallback())
        assert list(tmp_path.iterdir()) == []


def test_a_bug_in_the_users_code_stops_the_study_and_is_named_with_its_place(make_job):
    job = faulty(make_job, "bug", **{"from": 0}, max_concurrent=1)
    with pytest.raises(InvalidInput) as caught:
        run(job, observer=RunCallback())
    line = str(caught.value)
    home = StudyFolder(job.folder / job.name)
    assert line.startswith(
        "trials must not all fail, the first 3 of 'study' failed alike (AttributeError: 'Net' "
        "object has no attribute 'layer2'. In test_trial_error.py line "
    )
    assert ", in spoiled)" in line
    assert f"the whole traceback is in {home.errors}" in line
    assert "run the job again with --retry-failed" in line
    result = load_study("study", folder=job.folder)
    assert states(result) == ["failed"] * 3
    for trial in result.trials:
        assert trial.reason.startswith("AttributeError: 'Net' object has no attribute 'layer")
        text = Path(trial.error).read_text()
        assert text.startswith("ray::Faulty.train_buffered()")
        assert "in spoiled" in text
        assert "\x1b" not in text


def test_failed_trials_run_again_with_their_parameters_once(make_job):
    first = run(
        faulty(make_job, "bug", **{"from": 3}, num_trials=5, pruner=NopPruner()),
        observer=RunCallback(),
    )
    assert states(first) == ["complete"] * 3 + ["failed"] * 2
    mended = faulty(make_job, "none", num_trials=5, pruner=NopPruner())
    for _ in range(2):  # a second time there is nothing left to repeat
        result = run(mended, observer=RunCallback(), retry_failed=True)
        assert states(result) == ["complete"] * 3 + ["failed"] * 2 + ["complete"] * 2
        assert [trial.retry_of for trial in result.trials] == [None] * 5 + [3, 4]
        assert [t.params for t in result.trials[5:]] == [t.params for t in result.trials[3:5]]
        assert result.finished
    assert resume("study", folder=mended.folder, observer=RunCallback()) == result


def test_failures_of_different_kinds_do_not_stop_a_study(make_job):
    class Various(Faulty):
        def spoiled(self, report):
            raise [KeyError, ValueError, OSError][self.number % 3]("no")

    job = faulty(make_job, "bug", **{"from": 0}, trainable=Various, num_trials=4)
    assert states(run(job, observer=RunCallback())) == ["failed"] * 4


def test_a_lack_of_memory_does_not_stop_a_study(make_job):
    class OutOfMemoryError(RuntimeError):
        pass

    class Large(Faulty):
        def spoiled(self, report):
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    job = faulty(make_job, "bug", **{"from": 0}, trainable=Large, num_trials=4)
    assert states(run(job, observer=RunCallback())) == ["failed"] * 4


class TestTrialError:
    def test_without_an_error_it_says_so(self):
        assert TrialError.of(None).reason == "it crashed without an error message"

    def test_the_last_line_of_a_message_is_the_line(self):
        assert TrialError.of(ValueError("one\ntwo")).line == "ValueError: two"
        assert TrialError.of(ValueError()).line == "ValueError: no message"

    def test_the_place_is_the_innermost_frame_of_the_users_own_code(self):
        try:
            import json

            json.loads("{")
        except ValueError as error:
            known = TrialError.of(error)
        assert known.place.startswith("test_trial_error.py line ")
        assert known.place.endswith(
            "in test_the_place_is_the_innermost_frame_of_the_users_own_code"
        )
        assert known.reason.endswith(f". In {known.place}.")

    def test_errors_are_of_one_kind_if_only_numbers_differ(self):
        kinds = {TrialError(f"ValueError: {n} of 3.5e-4").kind for n in (1, 22, 0.5)}
        assert len(kinds) == 1
        assert TrialError("ValueError: x").kind != TrialError("TypeError: x").kind


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (complex(1, 1), r"score must be a real number that a float can hold, got the complex \(1"),
        (10**400, "score must be a real number that a float can hold, got the int 1000"),
    ],
)
def test_a_number_that_ray_cannot_average_fails_its_trial_alone(make_job, value, message):
    job = faulty(make_job, "score", value=value, pruner=NopPruner(), **{"from": 3, "at": 2})
    result = run(job.with_changes(num_trials=4), observer=RunCallback())
    assert states(result) == ["complete"] * 3 + ["failed"]
    assert re.search(message, result.trials[3].reason)


def test_a_decimal_number_is_read(make_job):
    job = faulty(make_job, "score", value=Decimal("0.5"), pruner=NopPruner(), **{"from": 0})
    result = run(job.with_changes(num_trials=2), observer=RunCallback())
    assert [trial.value for trial in result.trials] == [0.5, 0.5]


def test_a_space_that_raises_in_every_trial_stops_the_study_at_the_third(make_job):
    def late(trial):
        if trial.number > 0 and trial.study.study_name == "study":
            raise KeyError("late")
        return {**space(trial), "saves": True}

    job = make_job(trainable=Curve, search_space=late, num_trials=9, max_concurrent=4)
    with pytest.raises(InvalidInput, match="the first 3 of 'study' failed alike") as caught:
        run(job, observer=RunCallback())
    assert "In test_trial_error.py line " in str(caught.value)
    result = load_study("study", folder=job.folder)
    assert states(result).count("failed") == 3
    assert all(Path(trial.error).exists() for trial in result.trials if trial.state == "failed")
