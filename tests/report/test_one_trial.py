"""Everything about one trial, on a screen and as JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.study.example_studies import NAN, study_result, trial_result
from tuner.errors import InvalidInput
from tuner.report.one_trial import print_trial, trial_json

REASON = "peers: 2nd of 2 at epoch 5; only the best goes on. Compared by val_accuracy. Saves 5."
PRUNED = trial_result(
    1, "pruned", 0.25, reason=REASON, checkpoint="/studies/one", test={"test_accuracy": 0.24}
)
STUDY = study_result(trial_result(0, "complete", 0.5, epochs=10), PRUNED)


def shown(number: int, result=STUDY, **how) -> list[str]:
    console = Console(file=io.StringIO(), width=100, _environ={})
    print_trial(result, number, console, **how)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_it_shows_the_whole_reason_the_parameters_and_the_results():
    lines = shown(1)
    assert lines[0] == (
        "example, trial 1: pruned, val_accuracy 0.25, rank 2 of 2, 5/10 epochs, 1.5 s"
    )
    assert lines[1] == f"reason: {REASON}"
    assert "lr 0.2" in lines
    assert "test_accuracy 0.24" in lines
    assert "1 0.25 1 0.010 0.015" in lines
    assert "5 0.25 0.2 0.050 0.075" in lines


def test_a_layer_has_its_rotation_its_target_and_a_forecast_until_the_trial_is_whole():
    (first,) = (line for line in shown(1) if line.startswith("first 0.050"))
    assert first.split()[3] == "0.90"
    assert first.endswith(")")
    (first,) = (line for line in shown(0) if line.startswith("first 0.100"))
    assert not first.endswith(")")
    assert not [line for line in shown(0) if "forecast" in line]


def test_it_ends_with_the_checkpoint_and_the_call_that_loads_it():
    assert shown(1, name="a b", folder="my studies")[-2:] == [
        "checkpoint: /studies/one",
        "in Python: tuner.load_study('a b', folder='my studies').trials[1].weights()",
    ]
    assert not [line for line in shown(0) if "checkpoint" in line]


def test_a_control_trial_has_the_reason_that_would_have_pruned_it():
    result = study_result(trial_result(0, "complete", 0.5, epochs=10, audit="peers: 3rd of 9"))
    assert "control trial; it would be pruned: peers: 3rd of 9" in shown(0, result)


def test_of_many_reports_some_are_shown_with_the_first_and_the_last():
    long = trial_result(0, "complete", 0.5, epochs=100)
    lines = shown(0, study_result(long, max_epochs=100))
    assert "15 of 100 reports; --json has all of them" in lines
    epochs = [line.split()[0] for line in lines if line.endswith("1.500") or line[:2] == "1 "]
    assert epochs == ["1", "100"]


def test_a_trial_that_has_reported_nothing_is_one_line_and_its_parameters():
    assert shown(0, study_result(trial_result(0, "running", epochs=0, seconds=0))) == [
        "example, trial 0: running, val_accuracy -, rank 1 of 1, 0/10 epochs, 0.0 s",
        "",
        "parameters",
        "lr 0.1",
    ]


def test_hostile_texts_stay_on_their_line():
    evil = trial_result(0, "failed", 0.5, reason="a\n\x1b[2Jb", params={"[red]x": "y\nz"})
    lines = shown(0, study_result(evil))
    assert lines[1] == "reason: a [2Jb"
    assert "[red]x y z" in lines


def test_json_has_every_report_and_the_forecast():
    told = json.loads(trial_json(STUDY, 1))
    assert (told["trial"], told["rank"], told["state"]) == (1, 2, "pruned")
    assert (told["val_accuracy"], told["reason"]) == (0.25, REASON)
    assert told["params"] == {"lr": 0.2}
    assert [report["epoch"] for report in told["reports"]] == [1, 2, 3, 4, 5]
    assert told["reports"][4]["rotation"] == {"first": 0.05, "last": 0.1}
    assert told["rotation"] == {"first": 0.05, "last": 0.1}
    assert set(told["forecast"]) == {"first", "last"}
    assert json.loads(trial_json(STUDY, 0))["forecast"] is None


def test_json_has_null_for_what_is_unknown():
    result = study_result(trial_result(0, "failed", NAN, params={"lr": NAN}))
    told = json.loads(trial_json(result, 0))
    assert told["val_accuracy"] is None
    assert told["params"] == {"lr": None}
    assert told["reports"][0]["val_accuracy"] is None


@pytest.mark.parametrize(
    ("result", "has"), [(STUDY, "it has 0 to 1"), (study_result(), "it has none yet")]
)
def test_a_trial_that_is_not_there_is_refused(result, has):
    for show in (lambda: shown(2, result), lambda: trial_json(result, 2)):
        with pytest.raises(InvalidInput, match=f"a trial of 'example', got 2; {has}"):
            show()
