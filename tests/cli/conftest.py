"""What the tests of the command share: the command itself, in a process and a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.command_here import Said, run_here

COMMAND = Path(sys.executable).with_name("quarterturn")


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment without what would change where the command works."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("QUARTERTURN_", "RAY_"))}
    return {**kept, "RAY_ADDRESS": "local"}


@pytest.fixture(scope="session")
def quarterturn(environment) -> Callable[..., Said]:
    """Return a function that runs the command in a folder, and says what it said."""

    def run(*arguments: str, cwd: Path, **more: str) -> Said:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            cwd=cwd,
            env={**environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def on_ray(two_cpus) -> Callable[..., Said]:
    """Like `quarterturn`, for commands whose trials run on the Ray of all tests."""
    return run_here


class Preloaded:
    """A process that has imported the command, and runs it in forks of itself, one at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("preloaded_command.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, arguments: Sequence[object], cwd: Path, **about: object) -> int:
        """Run the command, and return the number of its process; `wait` before the next."""
        about = {"cwd": str(cwd), "arguments": [*map(str, arguments)], "environment": {}, **about}
        self._process.stdin.write(json.dumps(about) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """Return the exit code of the command that was begun."""
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0


@pytest.fixture(scope="session")
def preloaded(environment) -> Iterator[Preloaded]:
    process = Preloaded(environment)
    yield process
    process.close()


@pytest.fixture(scope="session")
def at_once(preloaded, tmp_path_factory) -> Callable[..., Said]:
    """Like `quarterturn`, for commands that start no Ray: 0.1 s each instead of 3."""
    folder = tmp_path_factory.mktemp("said")
    out, err = folder / "out", folder / "err"

    def run(*arguments: str, cwd: Path, **more: str) -> Said:
        preloaded.begin(arguments, cwd, environment=more, out=str(out), err=str(err))
        return Said(preloaded.wait(), out.read_text(), err.read_text())

    return run


@pytest.fixture(scope="session")
def first(shared_ray, tmp_path_factory) -> tuple[Path, Said]:
    """A folder with the finished study of the README's first example, and what the run said."""
    shared_ray.start()
    folder = tmp_path_factory.mktemp("first")
    command = "run --trainable digits-mlp --space sgd --name first --trials 4 --epochs 3"
    return folder, run_here(*command.split(" "), cwd=folder)
