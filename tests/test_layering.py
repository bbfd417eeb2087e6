"""The floors of the house: what each part may import, and what importing it costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("tuner", "trainables", "search_spaces")
CHARTS = ("tuner.files", "tuner.vega")
BELOW_TRAINABLES = ("trainables._lazy", "tuner.rotation", "tuner.errors")
ON_STORAGE = ("tuner.storage", "tuner.rotation", "tuner.errors")


# Statements that one process executes one after the other, and what must not be loaded after each.
# Whatever a statement loads stays, so what may be loaded comes last.
WITHOUT_TORCH = (
    ("import tuner", "torch ray optuna pandas numpy"),
    ("import tuner.errors", "torch ray optuna pandas numpy"),
    ("from tuner import InvalidInput", "torch ray optuna pandas numpy"),
    ("import tuner.cli", "torch ray optuna pandas pyarrow"),
    ("import tuner.engine.loggers.process", "torch ray optuna pandas mlflow tensorboardX"),
    ("import trainables, search_spaces", "torch ray optuna pandas"),
    ("import tuner.replay.recording", "torch ray optuna pandas"),
    ("import tuner.rotation", "ray optuna pandas"),
    ("import tuner.study.result", "ray optuna pandas"),
    ("import tuner.study.load", "ray pandas"),
    ("from tuner import RotationPruner, report_rotation, load_study", "ray pandas"),
    ("from tuner import TuningJob", "ray pandas"),
    ("import tuner.report", "ray altair jinja2 vl_convert"),
    ("import trainables.training, trainables.tasks, trainables.distributed", "torch ray"),
    ("import tuner.paper.plan", "torch ray"),
    ("import tuner.serve.server", "ray torch"),
    ("import tuner.report.html, tuner.report.plots", "ray torch"),
)
WITH_TORCH = (
    ("from tuner import RotationMonitor, RotationTarget", "ray optuna pandas"),
    ("from trainables import DigitsMlp, FashionCnn", "sklearn torch._dynamo optuna"),
    ("import tuner.api", "altair jinja2 tensorboardX tensorboard mlflow"),
)


def loaded_after(statements: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Execute statements in a new process; return which of the named modules each leaves loaded."""
    script = (
        "import json, sys\n"
        "found = {}\n"
        f"for statement, modules in {[*statements]}:\n"
        "    exec(statement)\n"
        "    found[statement] = sorted(set(modules.split()) & sys.modules.keys())\n"
        "print(json.dumps(found))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=ROOT,
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize("statements", [WITHOUT_TORCH, WITH_TORCH], ids=["light", "torch"])
def test_importing_a_part_loads_no_more_than_it_needs(statements):
    assert loaded_after(statements) == {statement: [] for statement, _ in statements}


def test_the_check_sees_what_is_loaded():
    statement = "import tuner.study.load"
    assert loaded_after([(statement, "ray pandas optuna")]) == {statement: ["optuna"]}


def test_every_public_name_is_handed_on_and_an_unknown_one_is_not():
    import tuner

    assert sorted(tuner.__all__) == dir(tuner) == sorted(tuner._HOMES)
    for name in tuner.__all__:
        assert getattr(tuner, name).__module__.startswith("tuner.")
    with pytest.raises(AttributeError, match="module 'tuner' has no attribute 'tunr'"):
        tuner.tunr  # noqa: B018


def imported(part: str) -> Iterator[tuple[str, str]]:
    """Yield every import in a file or folder, wherever it stands: the file and the module."""
    path = ROOT / part
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        package = file.relative_to(ROOT).parent.parts
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield file.name, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
                module = ".".join(filter(None, (base, node.module)))
                for alias in node.names:
                    name = f"{module}.{alias.name}"
                    is_module = (ROOT / name.replace(".", "/")).is_dir() or (
                        ROOT / f"{name.replace('.', '/')}.py"
                    ).is_file()
                    yield file.name, name if is_module else module


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("tuner/errors.py", ()),
        ("tuner/files.py", ("tuner.errors",)),
        ("tuner/vega.py", ("tuner.files",)),
        ("tuner/rotation", ("tuner.rotation", "tuner.errors")),
        ("trainables", ("trainables", "tuner.rotation", "tuner.errors")),
        ("trainables/distributed", ("trainables.distributed", *BELOW_TRAINABLES)),
        ("trainables/layca", ("trainables.layca", *BELOW_TRAINABLES)),
        ("trainables/models", ("trainables.models", *BELOW_TRAINABLES)),
        (
            "trainables/training",
            (
                *("trainables.training", "trainables.layca", "trainables.distributed"),
                *BELOW_TRAINABLES,
            ),
        ),
        ("trainables/datasets", ("trainables.datasets", "trainables.training", *BELOW_TRAINABLES)),
        (
            "trainables/base.py",
            ("trainables.training", "trainables.distributed", *BELOW_TRAINABLES),
        ),
        ("search_spaces", ("search_spaces", "tuner.errors")),
        ("tuner/storage", ("tuner.storage", "tuner.errors")),
        ("tuner/study", ("tuner.study", *ON_STORAGE)),
        # The default number of epochs, which a job and a trial's config share.
        ("tuner/job.py", ("tuner.study", "trainables.training", *ON_STORAGE)),
        ("tuner/jobfile.py", ("tuner.job", "tuner.errors", "trainables", "search_spaces")),
        ("tuner/report", ("tuner.report", "tuner.study", *CHARTS, *ON_STORAGE)),
        ("tuner/replay", ("tuner.replay", "tuner.study", *CHARTS, *ON_STORAGE)),
        (
            "tuner/engine",
            ("tuner.engine", "tuner.job", "tuner.jobfile", "tuner.study", *ON_STORAGE),
        ),
        ("tuner/serve", ("tuner.serve", "tuner.report", "tuner.study", *ON_STORAGE)),
    ],
)
def test_a_floor_imports_only_those_below_it(part, allowed):
    own = [(file, module) for file, module in imported(part) if within(module, OWN)]
    assert [found for found in own if not within(found[1], allowed)] == []
    assert bool(own) == bool(allowed)


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("tuner/rotation", ("ray", "optuna", "pandas")),
        ("tuner/report", ("ray", "tuner.engine", "tuner.serve", "starlette", "uvicorn")),
        ("tuner/serve", ("ray", "tuner.engine", "pickle", "cloudpickle", "tuner.job")),
        ("tuner/replay", ("ray", "torch", "tuner.engine", "tuner.report")),
        ("tuner/engine", ("tuner.report", "tuner.cli")),
        ("tuner/api.py", ("tuner.serve", "tuner.replay", "tuner.cli")),
        ("tuner/paper", ("tuner.report", "tuner.replay", "tuner.cli")),
        ("search_spaces", ("ray", "torch")),
        ("trainables", ("optuna",)),
    ],
)
def test_a_part_never_imports_what_it_must_not_know(part, forbidden):
    modules = list(imported(part))
    assert [found for found in modules if within(found[1], forbidden)] == []
    assert modules


@pytest.mark.parametrize("part", ["tuner", "trainables", "search_spaces"])
def test_the_product_never_imports_its_tests(part):
    assert [found for found in imported(part) if within(found[1], ("tests", "pytest"))] == []
