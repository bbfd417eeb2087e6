"""What the README tells people to type and to write, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(python|console)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
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


def block_with(text: str) -> str:
    (found,) = (block for block in PYTHON if text in block)
    return found


@pytest.mark.timeout(600)
def test_the_commands_run_in_the_order_they_are_written(folder: Path) -> None:
    (folder / "mine.py").write_text(block_with("# mine.py"))
    printed = {command: run(command.split(), folder) for command in COMMANDS}
    assert len(printed) == 15
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("monitor.measure())  #", "'0.weight': 0."),
        ("Layca(torch.optim.SGD", "0.0"),
        ("RotationPruner(max_epochs", "saves"),
        ("# function.py", "complete"),
    ],
    ids=["a plain loop", "Layca", "plain Optuna", "a function trainable"],
)
def test_each_part_works_on_its_own(text: str, expected: str, folder: Path) -> None:
    script = folder / "part.py"
    script.write_text(block_with(text))
    assert expected in run([sys.executable, script.name], folder)


def test_the_examples_define_a_job() -> None:
    from tuner.jobfile import load_job

    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
    assert [load_job(str(example)).name for example in examples] == ["fashion"]


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in ("demo", "test", "check", "install"):
        assert f"\n{target}:" in makefile
