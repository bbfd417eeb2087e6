"""Every mistake is one line on stderr and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import search_spaces
import trainables

JOB = """
from trainables import DigitsMlp
from tuner import TuningJob
def space(trial):
    {space}
job = TuningJob(name="own", trainable=DigitsMlp, search_space=space, num_trials=2, max_epochs=2)
"""
FILES = {
    "no_job.py": "answer = 42\n",
    "syntax.py": "def space(trial)\n    return {}\n",
    "raises.py": "import tuner\n1 / 0\n",
    "misspelt.py": "from tuner import TuningJob\njob = TuningJob(nam='x')\n",
    "empty_space.py": JOB.format(space="return {}"),
    "bad_space.py": JOB.format(space="raise KeyError('lr')"),
    "list_space.py": JOB.format(space="return [trial.suggest_float('lr', 0, 1)]"),
    "two_jobs.py": JOB.format(space="return {}") + "second = job.with_changes(name='second')\n",
    "file": "",
}
DIGITS = "run --trainable digits-mlp --space sgd --name new "

BEFORE_RAY = {
    "run --trainable digit --space sgd": "unknown trainable 'digit'; known: digits-mlp, ",
    "run --trainable digits-mlp --space adamm": "unknown search space 'adamm'; known: adam, adamw",
    "run --trainable digits-mlp --space nowhere:space": "'nowhere:space' must be a name or module",
    DIGITS + "--pruner rotatoin": "unknown pruner 'rotatoin'; known: rotation, ",
    DIGITS + "--sampler tp": "unknown sampler 'tp'; known: tpe, ",
    DIGITS + "--trials 0": "num_trials must be >= 1, got 0",
    DIGITS + "--trials -1": "num_trials must be >= 1, got -1",
    DIGITS + "--trials many": "'many' is not a valid integer; see quarterturn run --help",
    DIGITS + "--epochs 0": "max_epochs must be >= 1, got 0",
    DIGITS + "--concurrent 0": "max_concurrent must be >= 1, got 0",
    DIGITS + "--gpus-per-trial 1.5": "gpus_per_trial must be whole above 1, got 1.5",
    DIGITS + "--cpus-per-trial nan": "cpus_per_trial must be ",
    DIGITS + "--memory-gb-per-trial -1": "memory_gb_per_trial must be >= 0.*, got -1",
    DIGITS + "--node-label gpu": "must be KEY=VALUE, got 'gpu'; see quarterturn run --help",
    DIGITS + "--resource-per-trial licence=": "must be NAME=AMOUNT, got 'licence='",
    DIGITS + "--resource-per-trial licence=many": "resources_per_trial must be a valid number",
    DIGITS + "--checkpoints s3://k:s@b": "the URL of a place .* must not hold credentials",
    DIGITS + "--checkpoints file/x": "checkpoints must be in a folder or bucket that can be",
    DIGITS + "--checkpoints nfs://host/x": "use a folder, or a URL with s3://",
    DIGITS + "--log tensorbord": "unknown logger 'tensorbord'; known: tensorboard, ",
    DIGITS + "--metric val_accurracy": (
        r"mode must be given for the metric 'val_accurracy' \(is 'val_accuracy' meant\?\), whose"
    ),
    DIGITS + "--mode best": "'best' is not one of 'min', 'max'",
    DIGITS + "--storage nonsense": "storage must be the URL of a database that answers",
    DIGITS + "--folder file/studies": "the output folder must be writable, got",
    "find-rate --trainable digits-mlp --space sgd --log mlflow": "No such option '--log'",
    "report new --json --html": "Give --csv, --json, --top and --sort for the printed report",
    DIGITS + "--nonsense": "No such option '--nonsense'. .*see quarterturn run --help",
    "run --trainable digits-mlp --space sgd --name a/b": "name must be letters, digits",
    DIGITS + "--storage @nowhere": "--storage @FILE must name a file that can be read, got '@nowh",
    "submit no_job.py": "Missing option '--address'.*see quarterturn submit --help",
    "submit --address head:1": "Give a FILE, or both --trainable and --space",
    "submit nowhere.py --address head:1": "a job file must exist, got 'nowhere.py'",
    "submit no_job.py --address head:1": "a job file must define one TuningJob",
    "submit bad_space.py --address head:1": "KeyError",
    DIGITS.replace("run", "submit")
    + "--address http://127.0.0.1:1": "job server must answer, got http://127.0.0.1:1 ",
    "status new --address ray://head:1": "--address must be that of a job server, http://HOST:8265",
    "logs new --address http://127.0.0.1:1": "the cluster's job server must answer, got http://127",
    "report new --address http://127.0.0.1:1": "the cluster's job server must answer",
    "paper rate": "unknown finding 'rate'; known: rates, ",
    "paper rates --scale huge": "unknown scale 'huge'; known: full, small",
    "paper rates --seeds 0": "seeds must be >= 1, got 0; use 2 to compare seeds",
    "paper rates --tasks c10": "unknown task 'c10'; known: c100-wrn, c10-cnn2, ",
    "run": "Give a FILE, or both --trainable and --space; see quarterturn run --help",
    "run --trainable digits-mlp": "Give a FILE, or both --trainable and --space",
    "run missing.py": "a job file must exist, got 'missing.py'",
    "run no_job.py": "a job file must define one TuningJob, no_job.py defines none",
    "run syntax.py": "a job file must run, syntax.py raised SyntaxError: .*line 1",
    "run raises.py": r"a job file must run, raises.py raised ZeroDivisionError: .*\(line 2\)",
    "run misspelt.py": "TuningJob",
    "run two_jobs.py": "must define one TuningJob, two_jobs.py defines job, second; name one:",
    "run file": "a job file must be Python, got 'file'",
    "run empty_space.py": "a search space must suggest something, space suggested nothing",
    "run bad_space.py": "a search space must not raise, space raised KeyError: 'lr'",
    "run list_space.py": "a search space must return a dict, space returned list",
    "report firts": "unknown study 'firts'; known: first ",
    "resume firts": "unknown study 'firts'; known: first ",
    "report first --sort nonsense": "unknown column to sort by 'nonsense'; known: ",
    "report first --top 0": "0 is not in the range x>=1",
    "report sqlite:///missing.db#first": "database",
    "reprot first": "No such command 'reprot'",
    "run --trainable digits-mlp --space adam --name first --trials 4 --epochs 3": (
        "a study keeps its search space, 'first' was given another; choose another name, or"
    ),
    "run --trainable digits-mlp --space sgd --name first --trials 4 --epochs 4": (
        "a study keeps its epochs per trial, 'first' was given 4 where it has 3"
    ),
}
WITH_RAY = {
    DIGITS + "--mode max --metric val_accurracy": (
        "every epoch must report the metric, 'val_accurracy' was not among: .*val_accuracy"
    ),
    DIGITS + "--gpus-per-trial 99": "at most the [0-9]+ GPUs? that one node has",
    DIGITS + "--cpus-per-trial 999": "at most the 2 CPUs that one node has",
    "run --trainable fashion-cnn --space sgd --name new --data /nonexistent": (
        "Fashion-MNIST needs train-images-idx3-ubyte.*, which is not in /nonexistent; .*--data DIR"
    ),
    "run --trainable fashion-cnn --space sgd --name new --data damaged": (
        "train-images-idx3-ubyte holds 1000 bytes of data, but its header says 47040000"
    ),
}


@pytest.fixture(scope="module")
def workplace(first) -> Iterator[Path]:
    """The folder of the first study, with files that cannot be used."""
    folder, _ = first
    for name, content in FILES.items():
        (folder / name).write_text(content)
    (folder / "damaged").mkdir()
    header = struct.pack(">4B3I", 0, 0, 8, 3, 60000, 28, 28)
    (folder / "damaged" / "train-images-idx3-ubyte").write_bytes(header + bytes(1000))
    yield folder
    for name in FILES:
        (folder / name).unlink()
    (folder / "damaged" / "train-images-idx3-ubyte").unlink()
    (folder / "damaged").rmdir()


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but Python's cache and the lock, which is empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and path.name != ".lock"
    }


def is_refused(run, folder, command, message, **more):
    before = contents(folder)
    said = run(*command.split(), cwd=folder, **more)
    assert said.err.startswith("quarterturn: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert re.search(message, said.err), said.err
    # A mistake that only a trial meets comes after the line that says that the study has begun.
    assert said.code == 2
    assert re.fullmatch(r"(study new: 0/50 trials, maximising val_accur+acy\n)?", said.out)
    assert contents(folder) == before


@pytest.mark.parametrize("command", BEFORE_RAY)
def test_a_mistake_is_one_line(at_once, workplace, command):
    is_refused(at_once, workplace, command, BEFORE_RAY[command])


def test_a_mistake_is_one_line_from_the_shell_too(quarterturn, workplace):
    command = next(iter(BEFORE_RAY))
    is_refused(quarterturn, workplace, command, BEFORE_RAY[command])


@pytest.mark.parametrize("command", WITH_RAY)
def test_a_mistake_that_shows_on_the_cluster_is_one_line(on_ray, workplace, command):
    is_refused(on_ray, workplace, command, WITH_RAY[command])


@pytest.mark.cluster  # Ray asks again for half a minute
def test_a_cluster_that_wants_a_token_is_told_in_the_last_line(quarterturn, workplace, two_cpus):
    assert os.environ["RAY_AUTH_MODE"] == "token"
    address = ray.get_runtime_context().gcs_address
    command = "run --trainable digits-mlp --space sgd --name new"
    without = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
    said = quarterturn(*command.split(), cwd=workplace, **without)
    assert (said.code, said.out) == (2, "")
    # Ray's own warnings before it come from below Python.
    last = said.err.splitlines()[-1]
    assert last.startswith("quarterturn: the Ray cluster must answer, got ")
    assert address in last
    assert "Traceback" not in said.err
    assert not (workplace / "studies" / "new").exists()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_told_at_once(at_once, tmp_path, scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    command = "run --trainable digits-mlp --space sgd --name new"
    begun = time.monotonic()
    said = at_once(*command.split(), cwd=tmp_path, RAY_ADDRESS=address)
    assert time.monotonic() - begun < 30  # Ray itself takes 120
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert line.startswith(f"quarterturn: the Ray cluster must answer, got {address!r} (")
    assert not list(tmp_path.iterdir())


def test_no_arguments_print_the_help(at_once, tmp_path):
    said = at_once(cwd=tmp_path)
    assert said.code == 2
    assert "Usage: quarterturn" in said.out + said.err


@pytest.mark.parametrize("command", ["", "run", "resume", "report", "spaces", "trainables"])
def test_help_shows_an_example(at_once, tmp_path, command):
    said = at_once(*command.split(), "--help", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"^  quarterturn {command or 'run'}\b", said.out, re.MULTILINE)


@pytest.mark.parametrize("command", ["spaces", "trainables"])
def test_what_there_is_is_listed_with_a_line_each(at_once, tmp_path, command):
    known = {"spaces": search_spaces.SPACES, "trainables": trainables.TRAINABLES}[command]
    said = at_once(command, cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in said.out.splitlines()]
    assert [name for name, _ in lines] == sorted(known)
    assert all(text.endswith((".", "`")) for _, text in lines)
