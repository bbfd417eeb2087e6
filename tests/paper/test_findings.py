"""What each finding makes of runs that show what the paper found, and of runs that do not."""

from __future__ import annotations

import pytest
from made_up_runs import runs, trial

from tuner.paper.finding import overall, share_held
from tuner.paper.grids import TASKS
from tuner.paper.reproduce import FINDINGS, find_findings

SEEDS = (0, 1)
TURNS = (0.1, 0.3, 0.5, 0.7, 0.9)


def held(name, table):
    finding = FINDINGS[name]
    judgement = finding.judge(table)
    assert judgement.words
    assert len(judgement.table)
    finding.draw(table).to_dict()
    return judgement.held


def rate_runs(slope, *, fits=True, task="c10-cnn1"):
    return runs(
        *(
            {"task": task, "grid": grid, "lr": 3.0**-n, "turned": t, "test": 0.8 + slope * t}
            | {"seed": seed, "fits": fits, "trial": trial(t)}
            for grid in ("sgd", "layca")
            for n, t in enumerate(TURNS)
            for seed in SEEDS
        )
    )


@pytest.mark.parametrize(
    ("slope", "fits", "expected"),
    [(0.1, True, "held"), (-0.1, True, "not held"), (0.1, False, "not testable here")],
)
def test_rates(slope, fits, expected):
    assert held("rates", rate_runs(slope, fits=fits)) == expected


@pytest.mark.parametrize(
    ("uneven", "expected"),
    [((0.7, 0.7), "held"), ((0.9, 0.7), "not held"), ((0.8, 0.8), "not held")],
)
def test_alpha(uneven, expected):
    tests = {-0.6: uneven[0], 0.0: 0.8, 0.6: uneven[1]}
    rows = [{"task": "c10-cnn1", "alpha": a, "test": t} for a, t in tests.items() for _ in SEEDS]
    assert held("alpha", runs(*rows)) == expected


@pytest.mark.parametrize(
    ("decayed", "expected"),
    [
        ({"turned": 0.9, "test": 0.9}, "held"),
        ({"turned": 0.1, "test": 0.9}, "not held"),
        ({"turned": 0.9, "test": 0.7}, "not held"),
    ],
)
def test_weight_decay(decayed, expected):
    plain = {"task": "tiny-cnn", "grid": "sgd", "lr": 1.0, "turned": 0.5, "test": 0.8}
    rows = [plain, {**plain, **decayed, "grid": "sgd-l2"}]
    assert held("weight-decay", runs(*({**r, "trial": trial()} for r in rows))) == expected


@pytest.mark.parametrize(
    ("none", "layca", "expected"),
    [
        (0.5, 0.9, "held"),
        (0.5, 0.7, "held in part"),
        (0.95, 0.9, "held in part"),
        (0.95, 0.7, "not held"),
    ],
)
def test_warmup(none, layca, expected):
    sgd = {0.0: none, 0.4: 0.9, 0.8: 0.89, 1.2: 0.88}
    rows = [{"grid": "warmup", "warmup_epochs": w, "test": test} for w, test in sgd.items()]
    rows.append({"grid": "warmup-layca", "warmup_epochs": 0.0, "test": layca})
    noisy = [
        {**row, "turned": 0.5, "test": row["test"] + d, "trial": trial()}
        for row in rows
        for d in (-0.001, 0.001)
    ]
    assert held("warmup", runs(*noisy)) == expected


@pytest.mark.parametrize(("layca", "expected"), [(0.9, "held"), (0.7, "not held")])
def test_adaptive(layca, expected):
    rows = [
        {"task": "c100-wrn", "grid": name, "lr": 0.1, "turned": 0.5, "test": test}
        for name, test in (("adaptive", 0.8), ("adaptive-layca", layca))
    ]
    assert held("adaptive", runs(*({**row, "trial": trial()} for row in rows))) == expected


@pytest.mark.parametrize(("slope", "expected"), [(0.1, "held"), (-0.1, "not held")])
def test_features(slope, expected):
    rows = [
        {"lr": 3.0**-n, "turned": t, "test": 0.9 + slope * t}
        for n, t in ((2, 0.9), (2.5, 0.6), (3, 0.3), (4, 0.1))
        for _ in SEEDS
    ]
    assert FINDINGS["features"].judge(runs(*rows)).held == expected


@pytest.mark.parametrize(
    ("needed", "expected"), [((1, 2, 3, 4, 5), "held"), ((3, 3, 3, 3, 3), "not held")]
)
def test_speed(needed, expected):
    rows = [
        {"task": "c10-cnn1", "lr": 3.0**-n, "test": 0.8}
        | {"trial": trial(losses=(2.0,) * (epochs - 1) + (0.5,) * 2)}
        for n, epochs in enumerate(needed)
        for _ in SEEDS
    ]
    assert held("speed", runs(*rows)) == expected


@pytest.mark.parametrize(
    ("by_task", "verdict"),
    [
        ({}, "not testable here"),
        ({"a": True}, "held"),
        ({"a": True, "b": False}, "held in part"),
        ({"a": False}, "not held"),
    ],
)
def test_a_claim_that_holds_on_some_tasks_is_held_in_part(by_task, verdict):
    assert overall(by_task) == verdict


def test_the_tasks_where_it_failed_are_named():
    assert share_held({"a": True, "b": False, "c": False}) == "on 1 of 3 tasks, not on b, c"


def test_all_are_the_papers_seven():
    assert len(find_findings("all")) == 7
    assert {grid.task for grid in FINDINGS["rates"].grids("full")} == set(TASKS)
