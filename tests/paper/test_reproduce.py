"""A finding, run for real: its studies, its verdict and its document."""

from __future__ import annotations

import sys

import pytest
from made_up_runs import runs
from ray import cloudpickle

from tuner.errors import InvalidInput
from tuner.paper.finding import Finding, Judgement
from tuner.paper.grids import Grid
from tuner.paper.plan import make_plan
from tuner.paper.reproduce import FINDINGS, Shown, show, write_document

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FEATURES = FINDINGS["features"]


def brief(scale):
    """The grid of `features` on so few images that an epoch is one step."""
    (grid,) = FEATURES.grids(scale)
    rates = {"lr": grid.axes["lr"][:2]}
    return (Grid(grid.task, grid.label, rates, {**grid.constants, "train_samples": 64}),)


BRIEF = Finding("brief", "In brief", "a claim", brief, FEATURES.judge, FEATURES.draw)


def judge_two(table):
    return Judgement("held", f"{len(table)} runs", table[["lr", "seed", "test"]])


@pytest.fixture(scope="module")
def shown(tmp_path_factory, two_cpus):
    folder = tmp_path_factory.mktemp("studies")
    two = Finding("two", "Two", "another claim", brief, judge_two, FEATURES.draw)
    begun = []
    plan = make_plan([two], "small", 2)
    first = show(plan, lambda *told: begun.append(told[1:]), folder=folder)
    return folder, plan, begun, first


def test_every_setting_is_run_for_every_seed(shown):
    _, _, begun, (only,) = shown
    assert begun == [(1, 1)]
    assert len(only.runs) == 4
    assert (only.runs.groupby("lr")["seed"].nunique() == 2).all()
    assert only.runs["turned"].is_monotonic_decreasing or only.runs["turned"].nunique() == 4
    assert only.runs["test"].between(0, 1).all()


def test_finished_runs_are_only_read_again(shown):
    folder, plan, _, (first,) = shown
    log = next(folder.glob("*/study.log")).read_bytes()
    (again,) = show(plan, folder=folder)
    assert again.judgement.words == first.judgement.words
    assert next(folder.glob("*/study.log")).read_bytes() == log


def test_the_document_has_the_claim_the_verdict_the_table_and_the_plot(shown, tmp_path):
    document = write_document(shown[3], tmp_path / "out")
    text = document.read_text()
    for part in ("## Two", "another claim", "held. 4 runs.", "| lr | seed | test |"):
        assert part in text
    assert "![Two](paper-two.png)" in text
    picture = (tmp_path / "out" / "paper-two.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 2000


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    made = Shown(BRIEF, "small", 1, runs({"test": 0.5}), Judgement("held", "so", runs({"test": 1})))
    with pytest.raises(InvalidInput, match="the output folder must be writable, got"):
        write_document([made], tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("scale", "seeds", "tasks", "said"),
    [
        ("tiny", 1, [], "unknown scale 'tiny'; known: full, small"),
        ("small", 0, [], "seeds must be >= 1, got 0; use 2"),
        ("small", 1, ["c10"], "unknown task 'c10'; known: mnist-features"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(scale, seeds, tasks, said):
    with pytest.raises(InvalidInput, match=said):
        make_plan([BRIEF], scale, seeds, tasks)


def test_a_plan_leaves_out_findings_without_the_tasks():
    plan = make_plan(tuple(FINDINGS.values()), "small", 1, ["c10-cnn1"])
    assert "features" not in plan.findings
    assert {grid.task for grid in plan.grids.values()} == {"c10-cnn1"}
