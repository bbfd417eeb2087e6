"""The table of runs, and the statistics that findings are judged by."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_up_runs import LAYERS, runs, trial

from tests.study.example_studies import study_result, trial_result
from tuner.paper.grids import Grid
from tuner.paper.runs import by_value, chosen, percent, power_of_three, rank_correlation, table_of
from tuner.rotation import RotationCurve

GRID = Grid("c100-resnet", "some", {"lr": (0.1,)}, {"optimizer": "sgd"})


def row(made, scale="small", grid=GRID):
    (only,) = table_of([(grid, study_result(made))], scale).to_dict("records")
    return only


def test_a_run_is_its_config_and_how_it_ended():
    only = row(trial(0.8, test=0.75, losses=(2.0, 0.5), lr=0.1))
    assert only["turned"] == pytest.approx(0.8)
    assert only["first"] == pytest.approx(0.4)
    wanted = {"task": "c100-resnet", "grid": "some", "optimizer": "sgd", "lr": 0.1, "test": 0.75}
    assert only | wanted == only


def test_first_layer_head_and_shortcuts_are_not_hidden_layers():
    layers = (LAYERS[0], "block.conv", "block.shortcut", LAYERS[-1])
    distances = dict(zip(layers, (0.1, 0.6, 0.2, 0.3), strict=True))
    curve = RotationCurve(layers=layers, max_epochs=1).append(1, distances, metric=0.5)
    assert row(trial_result(0, "complete", 0.5, curve=curve))["turned"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("loss", "scale", "fits"),
    [(0.28, "small", True), (0.29, "small", False), (0.57, "full", True), (0.58, "full", False)],
)
def test_a_run_fits_with_an_eighth_of_the_loss_of_knowing_nothing(loss, scale, fits):
    assert row(trial(losses=(3.0, loss), lr=0.1), scale)["fits"] == fits


def test_runs_that_failed_are_left_out():
    result = study_result(trial_result(0, "failed"), trial(lr=0.1))
    assert len(table_of([(GRID, result)], "small")) == 1


def test_the_correlation_is_spearmans_with_ties():
    generator = np.random.default_rng(1)
    table = pd.DataFrame({"x": generator.integers(6, size=40), "y": generator.normal(size=40)})
    table["y"] += 0.5 * table["x"]
    found, low, high = rank_correlation(table, "x", "y")
    assert found == pytest.approx(table["x"].corr(table["y"], method="spearman"))
    assert -1 <= low < found < high <= 1


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, -1.0)])
def test_a_relation_without_exception_is_1_whatever_is_resampled(sign, expected):
    table = pd.DataFrame({"x": np.arange(10.0), "y": sign * np.arange(10.0) ** 3})
    assert rank_correlation(table, "x", "y") == pytest.approx((expected,) * 3)


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
def test_too_few_runs_or_one_value_say_nothing(y):
    table = pd.DataFrame({"x": np.arange(float(len(y))), "y": y})
    assert all(math.isnan(value) for value in rank_correlation(table, "x", "y"))


def test_the_setting_chosen_is_best_on_average_by_validation():
    table = runs(
        {"lr": 0.1, "val": 0.9, "test": 0.1},
        {"lr": 0.1, "val": 0.5, "test": 0.1},
        {"lr": 0.2, "val": 0.8, "test": 0.2},
        {"lr": 0.2, "val": 0.8, "test": 0.4},
    )
    assert list(chosen(table, ["lr"])["test"]) == [0.2, 0.4]


def test_values_are_grouped_ascending():
    table = runs({"lr": 0.2, "test": 0.1}, {"lr": 0.1, "test": 0.2}, {"lr": 0.2, "test": 0.3})
    assert [(lr, list(of["test"])) for lr, of in by_value(table, "lr").items()] == [
        (0.1, [0.2]),
        (0.2, [0.1, 0.3]),
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.5], "50.00"), ([0.4, 0.6], "50.00 ± 10.00"), ([0.5, 0.5], "50.00 ± 0.00")],
)
def test_a_mean_has_its_standard_error_if_there_are_several(values, said):
    assert percent(pd.Series(values)) == said


@pytest.mark.parametrize(
    ("power", "said"), [(-3, "3^-3"), (-2.5, "3^-2.5"), (0, "3^0"), (2, "3^2")]
)
def test_rates_are_written_as_the_paper_does(power, said):
    assert power_of_three(3.0**power) == said
