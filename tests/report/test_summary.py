"""The report as data: sorted rows, one JSON object, and the line on top."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.study.example_studies import study_result, trial_result
from tuner.errors import InvalidInput
from tuner.report import headline, rows, to_json
from tuner.study.result import StudyResult

TRIALS = (
    trial_result(0, "complete", 0.5, params={"lr": 0.3, "opt": "sgd"}, seconds=2.0),
    trial_result(1, "pruned", 0.9, params={"lr": 0.1, "opt": "adam"}, seconds=1.0, epochs=2),
    trial_result(2, "running", params={"lr": 0.2}, epochs=0, seconds=0),
    trial_result(3, "complete", 0.7, params={"lr": 0.4, "opt": "sgd"}, seconds=3.25),
)


def order(result: StudyResult, **how: Any) -> list[int]:
    return rows(result, **how)["trial"].tolist()


class TestRows:
    @pytest.mark.parametrize(
        ("sort", "largest_first", "smallest_first"),
        [
            ("rank", [3, 0, 2, 1], [0, 3, 2, 1]),
            ("val_accuracy", [1, 3, 0, 2], [0, 3, 1, 2]),
            ("trial", [0, 1, 2, 3], [0, 1, 2, 3]),
            ("seconds", [2, 1, 0, 3], [2, 1, 0, 3]),
            ("lr", [1, 2, 0, 3], [1, 2, 0, 3]),
            ("params/lr", [1, 2, 0, 3], [1, 2, 0, 3]),
            ("opt", [1, 3, 0, 2], [1, 0, 3, 2]),
        ],
    )
    def test_are_sorted_ascending_but_the_metric_best_first(
        self, sort, largest_first, smallest_first
    ):
        assert order(study_result(*TRIALS, mode="max"), sort=sort) == largest_first
        assert order(study_result(*TRIALS, mode="min"), sort=sort) == smallest_first

    def test_a_parameter_of_mixed_kinds_can_be_sorted_by(self):
        choices = (None, "auto", 0.5, True, "all")
        trials = [trial_result(i, "complete", 0.5, params={"x": c}) for i, c in enumerate(choices)]
        assert sorted(order(study_result(*trials), sort="x")) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(("top", "shown"), [(None, 4), (0, 0), (2, 2), (9, 4)])
    def test_are_cut_to_the_top(self, top, shown):
        result = study_result(*TRIALS)
        assert order(result, top=top) == [3, 0, 2, 1][:shown]

    def test_an_unknown_column_lists_the_nearest_first(self):
        with pytest.raises(
            InvalidInput, match="column to sort by 'acuracy'; known: val_accuracy, "
        ):
            rows(study_result(*TRIALS), sort="acuracy")

    def test_of_an_empty_study_are_none(self):
        assert rows(study_result(), sort="val_accuracy", top=3).empty


class TestJson:
    def test_holds_exactly_what_is_agreed(self):
        trials = (
            trial_result(0, "complete", 0.5, params={"lr": 0.3, "opt": None}, epochs=10),
            trial_result(1, "pruned", 0.25, epochs=2.5, seconds=1.23456, reason="too flat"),
            trial_result(2, "running", epochs=0, params={}, seconds=0),
        )
        assert json.loads(to_json(study_result(*trials))) == {
            "study": "example",
            "metric": "val_accuracy",
            "mode": "max",
            "max_epochs": 10,
            "checkpoints": None,
            "rotation_target": {
                "distance": 1.0,
                "tolerance": 0.1,
                "quantile": 0.25,
                "first": None,
                "head": None,
                "shortcut": 0.73,
                "patterns": [],
            },
            "trials": [
                {
                    "rank": 1,
                    "trial": 0,
                    "state": "complete",
                    "status": "complete",
                    "value": 0.5,
                    "rotation_min": pytest.approx(0.1),
                    "rotation_min_layer": "first",
                    "rotation_mean": pytest.approx(0.15),
                    "epochs": 10,
                    "seconds": 1.5,
                    "params": {"lr": 0.3, "opt": None},
                    "reason": "",
                    "reason_short": "",
                },
                {
                    "rank": 2,
                    "trial": 2,
                    "state": "running",
                    "status": "running",
                    "value": None,
                    "rotation_min": None,
                    "rotation_min_layer": None,
                    "rotation_mean": None,
                    "epochs": 0,
                    "seconds": 0,
                    "params": {},
                    "reason": "",
                    "reason_short": "",
                },
                {
                    "rank": 3,
                    "trial": 1,
                    "state": "pruned",
                    "status": "pruned",
                    "value": 0.25,
                    "rotation_min": pytest.approx(0.02),
                    "rotation_min_layer": "first",
                    "rotation_mean": pytest.approx(0.03),
                    "epochs": 2.5,
                    "seconds": 1.235,
                    "params": {"lr": 0.2},
                    "reason": "too flat",
                    "reason_short": "too flat",
                },
            ],
            "saved": {"epochs": 7.5, "share": 0.375},
            "audits": None,
            "rotation": {
                "says": "not known yet",
                "weight": 0.2,
                "deviation": 0.1,
                "metric_weight": 0.4,
            },
            "advised": None,
            "started": None,
        }

    def test_whole_numbers_of_epochs_are_written_as_such(self):
        trials = (trial_result(0, "pruned", 0.5, epochs=2.0),)
        text = to_json(study_result(*trials))
        assert '"epochs": 2,' in text
        assert '"epochs": 8,' in text

    @pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
    def test_is_strict_json_whatever_the_values_and_parameters(self, odd):
        trial = trial_result(0, "complete", odd, params={"clip": odd, "lr": 0.5})

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        (shown,) = json.loads(to_json(study_result(trial)), parse_constant=refuse)["trials"]
        assert shown["value"] is None
        assert shown["params"]["lr"] == 0.5

    def test_of_an_empty_study_has_no_trials(self):
        document = json.loads(to_json(study_result()))
        assert document["trials"] == []
        assert document["saved"] == {"epochs": 0, "share": 0.0}

    def test_is_sorted_and_cut_as_the_rows_are(self):
        document = json.loads(to_json(study_result(*TRIALS), sort="lr", top=2))
        assert [(trial["trial"], trial["rank"]) for trial in document["trials"]] == [(1, 4), (2, 3)]

    def test_saved_is_shown_of_all_trials_even_when_cut(self):
        document = json.loads(to_json(study_result(*TRIALS), top=1))
        assert document["saved"] == {"epochs": 18, "share": 0.6}


@pytest.mark.parametrize(
    ("trials", "line"),
    [
        ((), "example: 0 trials (none yet); pruning saved 0 of 0 epochs (0%)"),
        (
            (("complete", 10), ("pruned", 1), ("pruned", 2.5), ("failed", 3), ("running", 4)),
            "example: 5 trials (1 complete, 2 pruned, 1 failed, 1 running); "
            "pruning saved 16.5 of 30 epochs (55%)",
        ),
        (
            (("complete", 10), ("complete", 10)),
            "example: 2 trials (2 complete); pruning saved 0 of 20 epochs (0%)",
        ),
    ],
)
def test_the_headline_counts_trials_and_what_was_saved(trials, line):
    made = [trial_result(i, state, 0.5, epochs=epochs) for i, (state, epochs) in enumerate(trials)]
    assert headline(study_result(*made)) == line


def test_the_headline_writes_a_million_epochs_out():
    made = [trial_result(0, "pruned", 0.5, epochs=4)]
    assert "saved 1234563 of 1234567 epochs" in headline(study_result(*made, max_epochs=1234567))
