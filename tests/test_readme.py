"""What the README tells people to type and to write, run as it stands there."""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_here import run_here
from tuner.paper.grids import Grid
from tuner.paper.reproduce import FINDINGS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(python|console)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
FEATURES = FINDINGS["features"]
COMMANDS = [
    line.partition("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("quarterturn")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_on_ray(command: str, folder: Path) -> str:
    said = run_here(*command.split()[1:], cwd=folder)
    assert said.code == 0, f"{command}\n{said}"
    return said.out


def block_with(text: str) -> str:
    (found,) = (block for block in PYTHON if text in block)
    return found


def brief(scale: str) -> tuple[Grid, ...]:
    """The grids of `features` on so few images that an epoch is one step."""
    return tuple(
        dataclasses.replace(grid, constants={**grid.constants, "train_samples": 64})
        for grid in FEATURES.grids(scale)
    )


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("two_cpus")
def test_the_commands_run_in_the_order_they_are_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text(block_with("# mine.py"))
    monkeypatch.setitem(
        FINDINGS, "features", dataclasses.replace(FINDINGS["features"], grids=brief)
    )
    # The first runs as it is typed, and starts a Ray; the others run on the Ray of all tests.
    first, *others = COMMANDS
    printed = {first: run(first.split(), folder)}
    printed.update({command: run_on_ray(command, folder) for command in others})
    assert len(printed) == 16
    assert "val_accuracy" in printed["quarterturn report first --top 3"]
    assert "16 trials" in printed["quarterturn resume first --trials 16"]
    assert "10 trials" in printed["quarterturn run mine.py"]
    assert "12 trials (12 complete)" in printed["quarterturn export whole"]
    assert "rotation" in printed["quarterturn replay whole.parquet --trials 12 --repeats 5"]
    assert "Here, 4 runs: " in printed["quarterturn paper features --seeds 1"]
    # Only now is there a best trial whose weights can be loaded.
    assert "has val_accuracy 0." in run(
        [sys.executable, "-c", block_with("best.weights()")], folder
    )


# Four trainings of 100 epochs: 84 s of a CPU. The test above runs the same on fewer images.
@pytest.mark.soak
def test_the_paper_command_runs_at_its_size(folder: Path) -> None:
    (command,) = (each for each in COMMANDS if " paper " in each)
    assert "Here, 4 runs: " in run(command.split(), folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("monitor.measure())  #", "'0.weight': 0."),
        ("Layca(torch.optim.SGD", "0.0"),
        ("RotationPruner(max_epochs", "Saves"),
        ("# function.py", "complete"),
    ],
    ids=["a plain loop", "Layca", "plain Optuna", "a function trainable"],
)
@pytest.mark.usefixtures("two_cpus")
def test_each_part_works_on_its_own(
    text: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "part.py"
    script.write_text(block_with(text))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert expected in capsys.readouterr().out


def test_the_examples_define_a_job() -> None:
    from tuner.jobfile import load_job

    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
    assert [load_job(str(example)).name for example in examples] == ["fashion"]


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in ("demo", "test", "check", "install"):
        assert f"\n{target}:" in makefile
