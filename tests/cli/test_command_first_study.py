"""A first study on the command line: run, report, run again, resume."""

from __future__ import annotations

import io
import json
import re

import pandas as pd
import pytest

from tests.study.example_studies import RANKING
from tuner.rotation import RotationTarget

JOB = ["--trainable", "digits-mlp", "--space", "sgd", "--name", "first"]
RUN = ["run", *JOB, "--trials", "4", "--epochs", "3"]
PARAMETERS = {"lr", "momentum", "weight_decay", "batch_size", "schedule", "warmup_epochs"}


def test_a_run_prints_a_line_per_trial_and_the_report_and_nothing_else(first):
    folder, said = first
    assert (said.code, said.err) == (0, "")
    begun, *lines = said.out.splitlines()
    assert begun == "study first: 0/4 trials, maximising val_accuracy"
    for done, line in enumerate(lines[:4], start=1):
        assert re.match(rf"{done}/4 trial [0-3] (complete|pruned), val_accuracy 0\.\d+, ", line)
        assert ": " in line or "3/3 epochs" in line
    assert re.match(
        r"first: 4 trials \(\d complete(, \d pruned)?\); pruning saved \d+ of", lines[4]
    )
    assert re.search("rotation (ranks|does not rank) the trials of this study", lines[5])
    assert lines[7].split()[:4] == ["rank", "trial", "state", "val_accuracy"]
    assert [line.split()[0] for line in lines[9:13]] == list("1234")
    *one, best, checkpoint, python, files = lines[14:]
    pruned = any(" pruned, " in line for line in lines[:4])
    assert one == ["everything about a trial: quarterturn report first --trial N"] * pruned
    assert best.startswith("best: trial ")
    assert checkpoint.startswith(f"its checkpoint: {folder}/studies/first/trials/trial-")
    assert python == "in Python: import tuner; weights = tuner.load_study('first').best.weights()"
    assert files == f"files: {folder}/studies/first"
    assert [path.name for path in folder.iterdir()] == ["studies"]


def test_the_report_is_the_one_the_run_printed(first, at_once):
    folder, said = first
    report = at_once("report", "first", cwd=folder)
    assert (report.code, report.err) == (0, "")
    assert report.out.rstrip() in said.out


def test_one_trial_is_shown_whole(first, at_once):
    folder, _ = first
    said = at_once("report", "first", "--trial", "0", cwd=folder)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("first, trial 0: ")
    told = json.loads(at_once("report", "first", "--trial", "0", "--json", cwd=folder).out)
    (listed,) = (
        trial
        for trial in json.loads(at_once("report", "first", "--json", cwd=folder).out)["trials"]
        if trial["trial"] == 0
    )
    assert (told["params"], told["reason"]) == (listed["params"], listed["reason"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--trial", "99"], "--trial must be the number of a trial of 'first', got 99; it has 0"),
        (["--trial", "-1"], "-1 is not in the range"),
        (["--trial", "0", "--top", "3"], "Give --trial alone or with --json"),
        (["--trial", "0", "--csv"], "Give --trial alone or with --json"),
        (["--trial", "0", "--html"], "Give --trial alone or with --json"),
    ],
)
def test_a_mistake_with_one_trial_is_one_line(first, at_once, arguments, why):
    folder, _ = first
    said = at_once("report", "first", *arguments, cwd=folder)
    assert (said.code, said.out) == (2, "")
    assert why in said.err
    assert said.err.count("\n") == 1


def test_csv_and_json_hold_the_same_trials(first, at_once):
    folder, _ = first
    csv = at_once("report", "first", "--csv", cwd=folder)
    table = pd.read_csv(io.StringIO(csv.out))
    assert list(table)[:9] == RANKING
    assert {name for name in table if name.startswith("params/")} == {
        f"params/{name}" for name in PARAMETERS
    }
    assert list(table)[-1] == "reason"
    report = json.loads(at_once("report", "first", "--json", cwd=folder).out)
    about = ("study", "metric", "mode", "max_epochs", "checkpoints")
    found = {"trials", "saved", "audits", "advised", "started", "rotation"}
    assert report.keys() == {*about, *found, "rotation_target"}
    assert RotationTarget.from_dict(report["rotation_target"]) == RotationTarget()
    facts = [report[key] for key in about]
    assert facts == ["first", "val_accuracy", "max", 3, None]
    assert report["saved"].keys() == {"epochs", "share"}
    assert [trial["rank"] for trial in report["trials"]] == [1, 2, 3, 4]
    for trial, row in zip(report["trials"], table.to_dict("records"), strict=True):
        assert trial.keys() == {
            *(RANKING[:3] + RANKING[4:]),
            "value",
            "params",
            "reason",
            "reason_short",
            "status",
        }
        assert trial["value"] == pytest.approx(row["val_accuracy"])
        assert trial["trial"] == row["trial"]
        assert trial["params"].keys() == PARAMETERS
        assert trial["params"]["lr"] == pytest.approx(row["params/lr"])
        assert bool(trial["reason"]) is (trial["state"] == "pruned")
        assert 0 < trial["rotation_min"] <= trial["rotation_mean"] < 2
        assert trial["rotation_min_layer"] in ("hidden1.weight", "hidden2.weight", "head.weight")
        assert 1 <= trial["epochs"] <= 3


def test_top_and_sort_choose_the_rows(first, at_once):
    folder, _ = first
    everything = json.loads(at_once("report", "first", "--json", cwd=folder).out)["trials"]
    options = ("--sort", "lr", "--top", "2")
    by_lr = json.loads(at_once("report", "first", "--json", *options, cwd=folder).out)["trials"]
    assert by_lr == sorted(everything, key=lambda trial: trial["params"]["lr"])[:2]
    table = at_once("report", "first", *options, cwd=folder).out.splitlines()
    assert [int(line.split()[1]) for line in table[5:7]] == [trial["trial"] for trial in by_lr]
    assert table[8] == "2 more: quarterturn report first"


def trials_of(at_once, folder):
    """What is known of each trial, by its number; its rank may change."""
    report = json.loads(at_once("report", "first", "--json", cwd=folder).out)
    return {trial["trial"]: {**trial, "rank": None} for trial in report["trials"]}


def test_a_finished_study_runs_no_more_and_resumes_with_more_trials(first, on_ray, at_once):
    folder, said = first
    before = trials_of(at_once, folder)
    again = at_once(*RUN, cwd=folder)
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines() == said.out.splitlines()[5:]
    assert trials_of(at_once, folder) == before

    more = on_ray("resume", "first", "--trials", "6", cwd=folder)
    assert (more.code, more.err) == (0, "")
    assert {line.split()[0] for line in more.out.splitlines()[1:3]} == {"5/6", "6/6"}
    assert "first: 6 trials (" in more.out
    after = trials_of(at_once, folder)
    assert sorted(after) == list(range(6))
    assert {number: after[number] for number in before} == before
