"""`quarterturn replay`: recorded trials through several schedulers, each mistake one line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuner.replay.compare import DEFAULT, SCHEDULERS


def write(path: Path, trials: int, epochs: int = 4, partial: int = 0) -> Path:
    """Write a recording: trial n ends with a metric of n/100, and the last have only one report."""
    reports = [
        (trial, epoch)
        for trial in range(trials + partial)
        for epoch in range(1, (epochs if trial < trials else 1) + 1)
    ]
    columns = {
        "trial": [trial for trial, _ in reports],
        "epoch": [epoch for _, epoch in reports],
        "max_epochs": [epochs] * len(reports),
        "lr_progress": [epoch / epochs for _, epoch in reports],
        "train_loss": [1 / (epoch + trial) for trial, epoch in reports],
        "val_accuracy": [trial / 100 * epoch / epochs for trial, epoch in reports],
        "test_accuracy": [trial / 50 for trial, _ in reports],
        "layers": [["a", "b"]] * len(reports),
        "rotation": [[0.01 * trial * epoch / epochs] * 2 for trial, epoch in reports],
        "config": ["{}"] * len(reports),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write(folder / "some.parquet", 12)
    write(folder / "part.parquet", 12, partial=48)
    write(folder / "one.parquet", 1, partial=2)
    (folder / "text.parquet").write_text("no recording")
    return folder


def test_a_real_study_is_exported_and_replayed(on_ray, at_once, tmp_path):
    run = (
        "run --trainable digits-mlp --space sgd --name first --trials 3 --epochs 2 --pruner none "
        "--concurrent 1"
    )
    said = on_ray(*run.split(), cwd=tmp_path)
    assert said.code == 0, said.err
    said = at_once("export", "first", cwd=tmp_path)
    command = said.out.splitlines()[1].split()  # what export says to type next
    assert command == ["quarterturn", "replay", "first.parquet"]
    said = at_once(*command[1:], "--repeats", "3", "--json", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    answer = json.loads(said.out)
    assert (answer["file"], answer["trials"], answer["repeats"]) == ("first.parquet", 3, 3)
    assert [*answer["schedulers"]] == [*DEFAULT]
    assert answer["schedulers"]["none"] == {
        "epochs_per_trial": 2.0,
        "speedup": 1.0,
        "val_loss_mean": 0.0,
        "val_loss_p90": 0.0,
        "test_loss_mean": 0.0,
        "test_loss_se": 0.0,
        "best_kept": 1.0,
    }
    for figures in answer["schedulers"].values():
        assert None not in figures.values()
        assert figures["speedup"] == pytest.approx(2 / figures["epochs_per_trial"])


def test_the_same_command_prints_the_same_json_in_another_process(quarterturn, at_once, folder):
    command = "replay some.parquet --json --trials 10 --repeats 3 --workers 3 --seed"
    first, again = (
        quarterturn(*command.split(), "4", cwd=folder, PYTHONHASHSEED=hash_seed)
        for hash_seed in ("1", "2")
    )
    other = at_once(*command.split(), "5", cwd=folder)
    assert first.code == again.code == other.code == 0
    assert first.out == again.out != other.out


def test_options_reach_the_replay(at_once, folder):
    said = at_once(
        *("replay", "some.parquet", "--schedulers", "one-epoch,none", "--trials", "5"),
        *("--repeats", "2", "--workers", "3", "--json"),
        cwd=folder,
    )
    assert (said.code, said.err) == (0, "")
    answer = json.loads(said.out)
    assert (answer["trials"], answer["repeats"]) == (5, 2)
    assert [*answer["schedulers"]] == ["one-epoch-1", "one-epoch-3", "none"]
    assert answer["schedulers"]["one-epoch-1"]["epochs_per_trial"] == 8 / 5


def test_all_is_every_scheduler(at_once, folder):
    command = "replay some.parquet --schedulers all --trials 3 --repeats 1 --json"
    said = at_once(*command.split(), cwd=folder)
    assert (said.code, said.err) == (0, "")
    assert [*json.loads(said.out)["schedulers"]] == [*SCHEDULERS]


def test_without_json_there_is_a_table(at_once, folder):
    said = at_once("replay", "part.parquet", "--repeats", "2", cwd=folder)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[:2] == [
        "part: 2 random draws of 12 of 12 trials, 4 epochs each, 1 worker, seed 0",
        "12 of 60 trials reach the last epoch; the other trials are not used",
    ]
    for name in DEFAULT:
        assert f"\n{name} " in said.out


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_the_plot_is_drawn_to_a_file(at_once, folder, tmp_path, form):
    picture = tmp_path / "plot.svg"
    said = at_once(
        *("replay", "some.parquet", "--repeats", "1", "--plot", picture, *form), cwd=folder
    )
    assert (said.code, said.err) == (0, "")
    assert picture.read_text().startswith("<svg")
    if form:
        json.loads(said.out)
    else:
        assert said.out.splitlines()[-1] == f"wrote {picture}"


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_json_stays_alone(environment, folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = "replay some.parquet --schedulers none,asha-2 --repeats 4 --json"
    done = subprocess.run(
        [Path(sys.executable).with_name("quarterturn"), *command.split()],
        cwd=folder,
        env={**environment, "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "replaying" in shown
    assert "8/8" in shown
    assert [*json.loads(done.stdout)["schedulers"]] == ["none", "asha-2"]


def test_help_says_what_is_left_out_and_why(at_once, folder):
    said = at_once("replay", "--help", cwd=folder)
    assert said.code == 0
    assert "all but wilcoxon, whose permutation tests take seconds a repeat" in " ".join(
        said.out.split()
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("missing.parquet", "a recording must be a file, 'missing.parquet' is not a file; "),
        ("text.parquet", "a recording must be a Parquet file, 'text.parquet' cannot be read "),
        ("one.parquet", "a replay needs at least 2 trials that reach the last epoch, one has 1 of"),
        ("some.parquet --trials 1", "trials must be >= 2, got 1; "),
        ("some.parquet --trials many", "Invalid value for '--trials': 'many' is not a valid int"),
        ("some.parquet --repeats 0", "repeats must be >= 1, got 0; "),
        ("some.parquet --repeats -3", "repeats must be >= 1, got -3; "),
        ("some.parquet --workers 0", "workers must be >= 1, got 0; "),
        ("some.parquet --seed -1", "seed must be >= 0, got -1; "),
        ("some.parquet --schedulers rotatoin", "unknown scheduler 'rotatoin'; known: rotation, "),
        ("some.parquet --schedulers none,", "unknown scheduler ''; known: "),
        ("some.parquet --plot plot.gif", "the plot must be a file that ends in .png or .svg, got "),
        ("some.parquet --plot no/plot.png", "the folder of the plot must exist, got "),
        ("", "Missing argument 'FILE'; see quarterturn replay --help"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(at_once, folder, arguments, why):
    before = sorted(folder.iterdir())
    said = at_once("replay", *arguments.split(), cwd=folder)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"quarterturn: {why}")
    assert said.err.count("\n") == 1
    assert sorted(folder.iterdir()) == before
