"""The direction of a metric, by its name."""

from __future__ import annotations

import pytest

from tuner.study.direction import mode_of


@pytest.mark.parametrize(
    "metric",
    ["dice_loss", "iou_loss", "top1_error", "logloss", "loss", "val_loss",
     "valLoss", "eval/loss", "error", "top-1 error", "rmse", "test.perplexity",
     "WER", "cross_entropy_loss", "time_s"],
)  # fmt: skip
def test_a_smaller_loss_is_better(metric):
    assert mode_of(metric) == "min"


@pytest.mark.parametrize(
    "metric",
    ["accuracy", "val_accuracy", "valAcc", "eval/f1", "mean_iou", "AUC", "top1", "score",
     "episode_reward_mean", "r2"],
)  # fmt: skip
def test_a_larger_accuracy_is_better(metric):
    assert mode_of(metric) == "max"


@pytest.mark.parametrize(
    "metric",
    [
        *(
            "speed",
            "",
            "m",
            "brier_score",
            "error_score",
            "lossy",
            "negative_log_likelihood",
            "123",
        ),
        *("neg_mean_squared_error", "-loss", "loss_reduction", "time_saved", "no_error"),
        *("accuracy_drop", "one_minus_accuracy", "1-accuracy", "val_reward_penalty", "return_code"),
        *("distance_score", "mean_time_to_failure", "generalization_gap"),
    ],
)
def test_a_name_that_says_nothing_or_both_implies_no_mode(metric):
    assert mode_of(metric) is None
