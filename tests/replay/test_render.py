"""A comparison as JSON, as a table and as a picture."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from made_up_recordings import THREE, recording, turning_trials
from made_up_trials import recorded
from rich.console import Console

from tuner.errors import InvalidInput
from tuner.replay.compare import DEFAULT, replay
from tuner.replay.render import print_comparison, to_json, write_comparison

NAN = math.nan


def shown(comparison, width: int = 80) -> str:
    console = Console(width=width, _environ={}, force_terminal=False)
    with console.capture() as capture:
        print_comparison(comparison, console)
    return capture.get()


@pytest.fixture(scope="module")
def comparison():
    trials = turning_trials(8, 30, 9)
    return replay(recording(trials, partial=6), trials=20, repeats=4, workers=2, seed=1)


def test_the_json_holds_every_figure(comparison):
    said = json.loads(to_json(comparison, "some/file.parquet"))
    assert [*said] == ["file", "trials", "repeats", "schedulers"]
    assert (said["file"], said["trials"], said["repeats"]) == ("some/file.parquet", 20, 4)
    assert [*said["schedulers"]] == [*DEFAULT]
    for name, figures in said["schedulers"].items():
        assert " ".join(figures) == (
            "epochs_per_trial speedup val_loss_mean val_loss_p90 test_loss_mean test_loss_se "
            "best_kept"
        )
        for key, value in figures.items():
            assert value == getattr(comparison.schedulers[name], key)


def test_the_table_is_cheapest_first_and_fits_80_columns(comparison):
    lines = shown(comparison).splitlines()
    assert lines[0] == (
        "made-up: 4 random draws of 20 of 30 trials, 9 epochs each, 2 workers, seed 1"
    )
    assert lines[1] == "30 of 36 trials reach the last epoch; the other trials are not used"
    assert lines[2].startswith("loss: final val_accuracy of ")
    rows = [line.split() for line in lines if line.split(" ")[0] in DEFAULT]
    assert {row[0] for row in rows} == {*DEFAULT}
    costs = [comparison.schedulers[row[0]].epochs_per_trial for row in rows]
    assert costs == sorted(costs)
    assert " ".join(rows[-1]) == "none 9.00 1.0 0.000 ± 0.000 0.000 0.000 ± 0.000 100%"
    assert max(map(len, lines[3:])) <= 80
    assert not any("…" in line for line in lines)


def test_nothing_is_left_out_without_a_word_and_no_word_without_need():
    assert "left out" not in shown(replay(recording(THREE), repeats=1))


@pytest.mark.parametrize(
    "trials",
    [
        [recorded(n, [0.5]) for n in range(2)],  # nothing to save and nothing to lose
        [recorded(n, [0.5, NAN]) for n in range(2)],  # nothing known
        [recorded(n, [n * 1e9, n * 1e9]) for n in range(9)],
        [recorded(n, [n * 1e-9, n * 1e-9]) for n in range(9)],
        [recorded(n, [0.5, math.inf]) for n in range(2)],
    ],
    ids=["one epoch", "no metric", "large", "small", "infinite"],
)
def test_anything_can_be_shown(trials, tmp_path):
    result = replay(recording(trials), repeats=2)
    table = shown(result)
    assert all(name in table for name in DEFAULT)
    assert "…" not in table
    json.loads(to_json(result, "f"))
    write_comparison(result, tmp_path / "plot.png")


@pytest.mark.parametrize(("suffix", "starts"), [("png", b"\x89PNG"), ("svg", b"<svg")])
def test_the_picture_is_written(comparison, tmp_path, suffix, starts):
    path = tmp_path / f"plot.{suffix}"
    for _ in range(2):  # what is there is replaced
        write_comparison(comparison, path)
    content = path.read_bytes()
    assert content.startswith(starts)
    if suffix == "svg":
        for name in DEFAULT:
            assert f">{name}</text>" in content.decode()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("plot.gif", "the plot must be a file that ends in .png or .svg, got "),
        ("plot", "the plot must be a file that ends in .png or .svg, got "),
        ("no/plot.png", "the folder of the plot must exist, got "),
        ("folder.png", "the plot must be writable, got "),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(comparison, tmp_path, name, why):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidInput, match=why):
        write_comparison(comparison, tmp_path / name)


def test_comparing_loads_neither_ray_nor_torch_nor_a_plotting_library():
    script = (
        "import tuner.replay.render, sys; "
        "print(*sorted({'ray', 'torch', 'pandas', 'altair'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == ""
