"""What the report says a study has shown of its pruning."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest

from tuner.report.evidence import evidence, examples_of
from tuner.report.summary import to_json
from tuner.study.load import read_result
from tuner.study.result import StudyResult
from tuner.study.schema import ADVICE, AUDIT, START

optuna.logging.set_verbosity(optuna.logging.ERROR)


def lines_of(audited: float | None, *others: float, direction: str = "maximize") -> list[str]:
    return evidence(result_of(audited, *others, direction=direction))


def result_of(audited: float | None, *others: float, direction: str) -> StudyResult:
    study = optuna.create_study(direction=direction)
    for value in others:
        study.add_trial(optuna.trial.create_trial(value=value))
    if audited is not None:
        study.add_trial(optuna.trial.create_trial(value=audited, user_attrs={AUDIT: "why"}))
    return read_result(study, None)


@pytest.mark.parametrize(
    ("audited", "direction", "said"),
    [
        (0.75, "maximize", "trial 2, has value 0.75, 0.125 worse than the best of the others"),
        (1.0, "maximize", "trial 2, has value 1, 0.125 better than the best of the others"),
        (0.25, "minimize", "trial 2, has value 0.25, 0.25 better than the best of the others"),
    ],
)
def test_an_audited_trial_is_held_against_the_best_of_the_others(audited, direction, said):
    (line,) = lines_of(audited, 0.5, 0.875, direction=direction)
    assert line.startswith(
        "control trials: 1 trained to the end although it would be pruned; the best, "
    )
    assert said in line


def test_without_audits_and_rotation_nothing_is_said():
    assert lines_of(None, 0.5, 0.875) == []


def test_the_json_document_has_the_same_evidence():
    said = json.loads(to_json(result_of(1.0, 0.5, 0.875, direction="maximize")))
    assert said["audits"] == {"trials": 1, "best": 2, "value": 1.0, "gain": 0.125}
    assert said["rotation"] is None


def with_marks(mark: str, *trials: tuple[str, float | None, str], direction: str = "maximize"):
    """Return a study of trials: how each is marked, its value, and its state."""
    study = optuna.create_study(direction=direction)
    for said, value, state in trials:
        study.add_trial(
            optuna.trial.create_trial(
                value=value,
                state=optuna.trial.TrialState[state],
                user_attrs={mark: said} if said else {},
            )
        )
    return read_result(study, None)


@pytest.mark.parametrize(
    ("trials", "direction", "line"),
    [
        (
            [("", 0.5, "COMPLETE"), ("raise lr", 0.75, "COMPLETE"), ("warm up", None, "WAITING")],
            "maximize",
            "trials that test advice: 1 of 2 have ended; the best, trial 1 (raise lr), has value "
            "0.75, 0.25 better than the best of the others: the advice helped",
        ),
        (
            [("", 0.5, "COMPLETE"), ("raise lr", 0.75, "COMPLETE"), ("warm up", 1.0, "COMPLETE")],
            "minimize",
            "trials that test advice: 2 of 2 have ended; the best, trial 1 (raise lr), has value "
            "0.75, 0.25 worse than the best of the others: the advice did not help",
        ),
        (
            [("", 0.5, "COMPLETE"), ("raise lr", None, "PRUNED")],
            "maximize",
            "trials that test advice: 1 of 1 have ended",
        ),
        (
            [("raise lr", 0.75, "COMPLETE")],
            "maximize",
            "trials that test advice: 1 of 1 have ended; the best, trial 0 (raise lr), has value "
            "0.75",
        ),
    ],
)
def test_advised_trials_are_held_against_the_best_of_the_others(trials, direction, line):
    result = with_marks(ADVICE, *trials, direction=direction)
    assert evidence(result) == [line]
    json.loads(to_json(result), parse_constant=pytest.fail)  # what is not known is null


@pytest.mark.parametrize(
    ("trials", "line"),
    [
        (
            [("ladder: a rate of 0.1", 0.5, "COMPLETE"), ("", 0.25, "COMPLETE")],
            "first trials, on a ladder of rotations: 1 of 1 have ended; the best, trial 0 (ladder: "
            "a rate of 0.1), has value 0.5, 0.25 better than the best of the others",
        ),
        (
            [("ladder: a rate of 0.1", None, "RUNNING"), ("ladder: a rate of 0.2", None, "FAIL")],
            "first trials, on a ladder of rotations: 1 of 2 have ended",
        ),
        (
            [("ladder: a rate of 0.1", 0.5, "COMPLETE")],
            "first trials, on a ladder of rotations: 1 of 1 have ended; the best, trial 0 (ladder: "
            "a rate of 0.1), has value 0.5",
        ),
    ],
)
def test_first_trials_are_held_against_the_best_of_the_others(trials, line):
    result = with_marks(START, *trials)
    assert evidence(result) == [line]
    json.loads(to_json(result), parse_constant=pytest.fail)


def of_curves(metric: str, advised: list[float], *others: list[float]) -> StudyResult:
    """Return a study of whole trials by their curves; the first tests an advice."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("metric", metric)
    for attrs, curve in (({ADVICE: "raise lr"}, advised), *(({}, other) for other in others)):
        trial = optuna.trial.create_trial(
            value=curve[-1],
            intermediate_values=dict(enumerate(curve, start=1)),
            user_attrs=attrs,
        )
        study.add_trial(trial)
    return read_result(study, None)


def of_300(*hits: int) -> list[float]:
    return [hit / 300 for hit in hits]


@pytest.mark.parametrize(
    ("metric", "hits", "said"),
    [
        # The standard error of an accuracy of .913 over 300 examples is .016.
        ("val_accuracy", 274, "0.01333 better than the best of the others: less than the noise, "),
        ("val_accuracy", 266, "0.01333 worse than the best of the others: less than the noise, "),
        ("val_accuracy", 276, "0.02 better than the best of the others: the advice helped"),
        ("val_accuracy", 264, "0.02 worse than the best of the others: the advice did not help"),
        # What is not an accuracy has no such error, and smooth curves have no other.
        ("score", 274, "0.01333 better than the best of the others: the advice helped"),
    ],
)
def test_a_gain_within_the_error_of_an_accuracy_is_no_help(metric, hits, said):
    rises = of_300(230, 240, 250, 260, 270), of_300(226, 237, 248, 259, 270)
    result = of_curves(metric, of_300(*range(hits - 40, hits + 1, 10)), *rises)
    assert said in evidence(result)[-1]


def test_a_gain_smaller_than_the_jumps_at_the_end_of_runs_is_no_help():
    jumps = [1.0, 1.2, 1.0, 1.2, 1.0, 1.2, 1.0, 1.2]
    steady = [value + 1 for value in (0.0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2)]
    # Jumps of .2 up and down are second differences of .4, over the root of 6.
    result = of_curves("score", [*jumps[:-1], 1.3], jumps, jumps)
    line = evidence(result)[-1]
    assert "0.1 better than the best of the others: less than the noise, which is about" in line
    assert line.endswith(" 0.16")
    result = of_curves("score", [*steady[:-1], 1.3], steady, steady)
    assert "0.1 better than the best of the others: the advice helped" in evidence(result)[-1]


@pytest.mark.parametrize(
    ("values", "examples"),
    [
        ([hit / 300 for hit in range(201, 240)], 300),
        ([float(np.float32(hit / 6007)) for hit in range(5001, 5020)], 6007),
        # All of them may be shares of fewer.
        ([hit / 300 for hit in range(200, 240, 2)], 150),
        ([0.5, 0.25, 0.75, 0.5, 0.25, 0.75, 0.5, 0.25], None),
        (list(np.random.default_rng(0).random(20)), None),
        ([], None),
    ],
)
def test_how_many_examples_an_accuracy_is_over_shows_in_its_values(values, examples):
    assert examples_of(values) == examples
