"""The charts: what they show of a study, as data, in notebooks and as pictures."""

from __future__ import annotations

import json

import pytest
from optuna.distributions import FloatDistribution, distribution_to_json

from tests.report.tuned_studies import HOSTILE, night
from tests.study.example_studies import study_result, trial_result
from tuner import report
from tuner.errors import InvalidInput
from tuner.report.charts import KINDS, all_charts
from tuner.report.charts.base import spread
from tuner.report.charts.export import write_plot
from tuner.report.charts.search import importances
from tuner.rotation import RotationCurve


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, ".svg") for kind in KINDS), ("rotation", ".png")]
)
def test_every_chart_is_drawn_as_a_picture_under_its_finding(tmp_path, kind, suffix):
    file = tmp_path / f"chart{suffix}"
    write_plot(night(60, names=HOSTILE), kind, file)
    picture = file.read_bytes()
    if suffix == ".png":
        assert picture.startswith(b"\x89PNG")
    else:
        assert b"<script" not in picture
        assert picture.count(b"<path") > 10
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_chart_is_there_for_notebooks(kind):
    chart = getattr(report, f"plot_{kind}")(night(60))
    spec = chart.to_dict()  # which checks it against Vega-Lite's schema
    assert spec["title"]["text"] == KINDS[kind](night(60)).title


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_study_with_nothing_to_show_in_it_is_a_users_mistake(kind):
    with pytest.raises(InvalidInput, match=f"'example' has none for '{kind}' among 0 trials"):
        getattr(report, f"plot_{kind}")(study_result())
    assert all_charts(study_result()) == {}


def test_what_is_left_out_of_a_chart_is_said():
    drawn = all_charts(night(3000))
    for kind in ("rotation", "metric", "slices"):
        assert "Of " in drawn[kind].caption, kind
    assert "are drawn, evenly by rank" in drawn["layers"].caption


@pytest.mark.parametrize(("log", "scale"), [(True, "log"), (False, "linear")])
def test_a_parameter_is_drawn_on_the_scale_that_its_space_draws_it_on(log, scale):
    trials = [
        trial_result(number, "complete", 0.5, params={"momentum": 0.001 + 0.1 * number})
        for number in range(10)
    ]
    space = {"momentum": FloatDistribution(0.001, 0.95, log=log)}
    space_json = json.dumps({name: distribution_to_json(spread) for name, spread in space.items()})
    spec = report.plot_slices(study_result(*trials, space=space_json)).to_dict()
    [chart] = spec["concat"]
    assert chart["encoding"]["x"]["scale"]["type"] == scale


@pytest.mark.parametrize(("best", "more"), [(8, ", including the best trial"), (2, "")])
def test_the_map_says_if_the_best_trial_turned_so_too(best, more):
    def turned(number):
        curve = RotationCurve(layers=("first", "hidden", "head"), max_epochs=10)
        for epoch in range(1, 11):
            early = 0.9 if number > 3 else 0.095 * epoch  # most trials turn at once
            distances = {"first": 0.0, "hidden": early, "head": 0.0}
            curve = curve.append(epoch, distances, metric=0.9 if number == best else 0.5)
        value = 0.9 if number == best else 0.5
        return trial_result(number, "complete", value, curve=curve, epochs=10)

    found = all_charts(study_result(*map(turned, range(10))))["layers"].title
    assert found == f"hidden turned too fast in 6 of 10 trials{more}"


def test_the_parameter_that_decides_is_the_most_important():
    found = importances(night(200))
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1)


def test_few_trials_show_no_importance():
    assert importances(night(10)) == {}


def test_the_cost_chart_counts_epochs_as_they_were_trained():
    trials = [
        trial_result(0, "pruned", 0.9, epochs=2),
        trial_result(1, "complete", 0.5, epochs=10),
        trial_result(2, "pruned", 0.4, epochs=1),
        trial_result(3, "complete", 0.7, epochs=10),
    ]
    shown = KINDS["cost"](study_result(*trials))
    assert shown.title == (
        "The best val_accuracy was reached after 23 epochs; without pruning after 40"
    )
    rows = shown.chart.to_dict()
    (data,) = rows["datasets"].values() if "datasets" in rows else [rows["data"]["values"]]
    assert [(row["epochs"], row["value"], row["kind"]) for row in data] == [
        (12, 0.5, "as run"),
        (23, 0.7, "as run"),
        (23, 0.7, "as run"),
        (20, 0.5, "without pruning"),
        (40, 0.7, "without pruning"),
        (40, 0.7, "without pruning"),
    ]


@pytest.mark.parametrize(
    ("count", "most", "picked"),
    [
        (0, 3, []),
        (3, 3, [0, 1, 2]),
        (5, 3, [0, 2, 4]),
        (10, 4, [0, 3, 6, 9]),
        (9, 1, [8]),
        (9, 0, []),
        (-2, 5, []),
    ],
)
def test_a_spread_is_even_and_holds_both_ends(count, most, picked):
    assert spread(count, most) == picked
