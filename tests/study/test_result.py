"""A study as data: ranked, with the best trial, what was saved, and every curve."""

from __future__ import annotations

import math

import optuna
import pytest
import torch

from tests.study.example_studies import (
    NAN,
    RANKING,
    make_study,
    study_result,
    trial_result,
)
from tuner.errors import InvalidInput
from tuner.study.load import load_study, read_result
from tuner.study.result import Saved, StudyResult
from tuner.study.schema import report_rotation, report_test


def numbers(result: StudyResult) -> list[int]:
    return [trial.number for trial in result.ranked]


class TestRanking:
    TRIALS = (
        trial_result(0, "failed", 0.99),
        trial_result(1, "pruned", 0.3),
        trial_result(2, "complete", 0.5),
        trial_result(3, "running", 0.8),
        trial_result(4, "complete", 0.7),
        trial_result(5, "pruned", 0.4),
        trial_result(6, "running"),
        trial_result(7, "complete", 0.5),
        trial_result(8, "failed"),
        trial_result(9, "pruned"),
    )

    @pytest.mark.parametrize(
        ("mode", "order"),
        [("max", [4, 2, 7, 3, 6, 5, 1, 9, 0, 8]), ("min", [2, 7, 4, 3, 6, 1, 5, 9, 0, 8])],
    )
    def test_complete_then_running_pruned_and_failed_each_best_first(self, mode, order):
        result = study_result(*self.TRIALS, mode=mode)
        assert numbers(result) == order
        assert result.best.number == order[0]

    @pytest.mark.parametrize(("mode", "worst"), [("max", -math.inf), ("min", math.inf)])
    def test_the_worst_value_there_is_comes_before_none_at_all(self, mode, worst):
        trials = (trial_result(0, "running"), trial_result(1, "running", worst))
        assert numbers(study_result(*trials, mode=mode)) == [1, 0]

    @pytest.mark.parametrize(
        ("trials", "among"),
        [
            ((), 0),
            ((trial_result(0, "running", 0.9), trial_result(1, "pruned", 0.8)), 2),
        ],
    )
    def test_there_is_no_best_one_without_a_complete_one(self, trials, among):
        with pytest.raises(InvalidInput, match=f"has none among {among}; run more trials") as told:
            _ = study_result(*trials).best
        assert "\n" not in str(told.value)

    def test_the_table_has_the_reports_columns_and_then_parameters(self):
        complete = trial_result(0, "complete", 0.5)
        conditional = trial_result(1, "pruned", 0.25, params={"depth": 3}, reason="too flat")
        table = study_result(complete, conditional).ranking()
        assert table.drop(columns=["params/lr", "params/depth"]).to_dict("records") == [
            {
                "rank": rank,
                "trial": rank - 1,
                "state": state,
                "val_accuracy": value,
                "rotation_min": 0.05,
                "rotation_min_layer": "first",
                "rotation_mean": pytest.approx(0.075),
                "epochs": 5,
                "seconds": 1.5,
                "reason": reason,
            }
            for rank, state, value, reason in (
                (1, "complete", 0.5, ""),
                (2, "pruned", 0.25, "too flat"),
            )
        ]
        assert list(table.columns)[:10] == [*RANKING, "params/lr"]
        assert table["params/lr"][0] == 0.1
        assert table["params/depth"][1] == 3

    def test_a_trial_that_has_not_reported_has_no_rotation(self):
        row = study_result(trial_result(0, "running", epochs=0)).ranking().iloc[0]
        assert math.isnan(row["rotation_min"])
        assert math.isnan(row["rotation_mean"])
        assert (row["rotation_min_layer"], row["epochs"]) == ("", 0)

    def test_an_empty_study_has_empty_tables(self):
        assert study_result().ranking().empty
        assert study_result().curves().empty


@pytest.mark.parametrize(
    ("trials", "saved"),
    [
        ((), Saved(0, 0.0)),
        ((("complete", 10),), Saved(0, 0.0)),
        ((("complete", 10), ("pruned", 1)), Saved(9, 0.45)),
        ((("pruned", 2), ("pruned", 3)), Saved(15, 0.75)),
        ((("pruned", 0.5),), Saved(9.5, 0.95)),
        ((("complete", 10), ("pruned", 5), ("failed", 1), ("running", 2)), Saved(5, 0.25)),
        ((("failed", 1), ("running", 2)), Saved(0, 0.0)),
    ],
)
def test_saved_is_what_finished_trials_did_not_train(trials, saved):
    made = [
        trial_result(number, state, 0.5, epochs=epochs)
        for number, (state, epochs) in enumerate(trials)
    ]
    assert study_result(*made).saved == saved


@pytest.mark.parametrize(
    ("states", "num_trials", "finished"),
    [
        (("complete", "pruned", "failed"), 3, True),
        (("complete", "pruned"), 3, False),
        (("complete", "pruned", "running"), 3, False),
        (("complete", "pruned", "failed", "running"), 3, True),
        ((), 0, True),
    ],
)
def test_a_study_is_finished_when_as_many_trials_have_ended_as_were_asked_for(
    states, num_trials, finished
):
    made = [trial_result(number, state, 0.5) for number, state in enumerate(states)]
    assert study_result(*made, num_trials=num_trials).finished == finished


def test_curves_are_one_row_per_trial_and_report(tmp_path):
    make_study(tmp_path)
    table = load_study("example", folder=tmp_path).curves()
    assert list(table.columns) == [
        "trial",
        "epoch",
        "lr_progress",
        "train_loss",
        "val_accuracy",
        "rotation/first",
        "rotation/last",
    ]
    assert list(table["trial"]) == [0] * 4 + [1] * 2 + [2] * 2 + [3] * 2
    assert list(table["epoch"]) == [1, 2, 3, 4, 1, 2, 1, 2, 1, 2]
    assert table["rotation/last"].iloc[:4].tolist() == [0.2, 0.4, 0.6, 0.8]
    assert table["val_accuracy"].iloc[4:6].tolist() == pytest.approx([0.11, 0.21])


class TestWeights:
    def test_they_load_into_the_model(self, tmp_path):
        home = make_study(tmp_path)
        checkpoint = home.trials / "trial_0" / "checkpoint_000003"
        checkpoint.mkdir(parents=True)
        model = torch.nn.Linear(2, 3)
        torch.save({"model": model.state_dict(), "epoch": 4}, checkpoint / "model.pt")
        weights = load_study("example", folder=tmp_path).best.weights()
        other = torch.nn.Linear(2, 3)
        other.load_state_dict(weights)
        assert torch.equal(other.weight, model.weight)

    @pytest.mark.parametrize("checkpoint", [None, "nowhere"])
    def test_without_a_checkpoint_it_is_one_line(self, checkpoint):
        trial = trial_result(3, "complete", 0.5, checkpoint=checkpoint)
        with pytest.raises(InvalidInput, match=f"trial 3 must have a .*has {checkpoint}; ") as told:
            trial.weights()
        assert "\n" not in str(told.value)


def test_rotation_leaves_out_layers_that_are_unknown():
    trial = trial_result(0, "running", epochs=1)
    curve = trial.curve.append(2, {"first": NAN, "last": 0.5})
    assert trial_result(0, "running", curve=curve).rotation == {"last": 0.5}


def test_a_trial_has_its_test_metrics_and_neither_its_curves_nor_the_ranking_do():
    study = optuna.create_study(study_name="tested")
    for number in range(2):
        trial = study.ask()
        report_rotation(trial, 1, {"a": 0.5})
        if number:
            report_test(trial, {"test_accuracy": 0.75, "test_loss": NAN})
        trial.report(0.5, 1)
        study.tell(trial, 0.5)
    result = read_result(study, None)
    assert [trial.test for trial in result.trials] == [
        {},
        {"test_accuracy": 0.75, "test_loss": pytest.approx(NAN, nan_ok=True)},
    ]
    assert repr(result.trials[0].curve) == repr(result.trials[1].curve)
    for table in (result.curves(), result.ranking()):
        assert not any("test" in column for column in table.columns)
