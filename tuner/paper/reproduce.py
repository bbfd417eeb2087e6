"""Reproduce findings of the paper: make the runs, judge them, write the document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from tuner.api import run
from tuner.errors import InvalidInput, unknown_name
from tuner.paper.finding import Finding, Judgement
from tuner.paper.findings import FINDINGS
from tuner.paper.grids import Grid
from tuner.paper.plan import Plan
from tuner.paper.runs import table_of
from tuner.study.result import StudyResult
from tuner.vega import write_picture


@dataclass(frozen=True)
class Shown:
    """A finding with its runs and its judgement.

    Attributes:
        finding: the finding.
        scale: the scale of the runs.
        seeds: runs of each setting.
        runs: a row for each run (see `runs.table_of`).
        judgement: the judgement of the claim by these runs.
    """

    finding: Finding
    scale: str
    seeds: int
    runs: pd.DataFrame
    judgement: Judgement


def show(
    plan: Plan,
    begun: Callable[[Grid, int, int], object] = lambda grid, number, of: None,
    **fields: Any,
) -> list[Shown]:
    """Make the runs of a plan and judge each finding; finished studies are only read.

    Args:
        plan: the runs to make.
        begun: called before each grid runs, with the grid, its number from 1, and the number of
            grids.
        fields: fields of every `TuningJob`, such as `folder`, `gpus_per_trial` and `data_dir`.

    Raises:
        InvalidInput: a job's field is out of range, or a study of this name has other runs.
        KeyboardInterrupt: a run was interrupted. The same call continues it.
    """
    # All jobs are created first, so that a wrong field is found before any run.
    jobs = {name: grid.job(plan.scale, **fields) for name, grid in plan.grids.items()}
    results: dict[str, tuple[Grid, StudyResult]] = {}
    for number, (name, grid) in enumerate(plan.grids.items(), start=1):
        begun(grid, number, len(jobs))
        result = run(jobs[name])
        if not result.finished:
            raise KeyboardInterrupt
        results[name] = (grid, result)
    shown = []
    for finding, grids in plan.findings.values():
        runs = table_of([results[grid.name(plan.scale)] for grid in grids], plan.scale)
        shown.append(Shown(finding, plan.scale, plan.seeds, runs, finding.judge(runs)))
    return shown


def print_shown(shown: Sequence[Shown], console: Console) -> None:
    """Print the claim, the table and the verdict of each finding."""
    for each in shown:
        table = Table(
            title=each.finding.title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for number, column in enumerate(each.judgement.table.columns):
            table.add_column(str(column), no_wrap=not number)
        for row in each.judgement.table.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(f"The paper: {each.finding.claim}.")
        console.print(table)
        console.print(f"{_verdict(each)}\n")


def write_document(shown: Sequence[Shown], folder: Path) -> Path:
    """Write `paper.md` and a plot for each finding into a folder; return the document's path.

    Raises:
        InvalidInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_INTRODUCTION.format(scale=shown[0].scale, seeds=shown[0].seeds)]
        for each in shown:
            picture = f"paper-{each.finding.name}.png"
            write_picture(each.finding.draw(each.runs), folder / picture)
            parts.append(_section(each, picture))
        document = folder / "paper.md"
        document.write_text("\n".join(parts))
    except OSError as error:
        raise InvalidInput(
            f"the output folder must be writable, got {str(folder)!r} ({error.strerror or error}); "
            "choose another with --out"
        ) from error
    return document


_INTRODUCTION = """# The paper's findings, run again

arXiv:1806.01603 at scale `{scale}`, seeds a setting: {seeds}. Written by `quarterturn paper`; the
tasks are described in tasks.md. "Turned" is the mean final cosine distance of the hidden layers; ±
is the standard error over seeds; the rate shown is the best on the validation split. The paper's
figures are of the full-size tasks: at scale `small`, on other data, only the pattern compares.
"""


def _section(each: Shown, picture: str) -> str:
    table = each.judgement.table
    lines = [
        f"## {each.finding.title}",
        "",
        f"The paper: {each.finding.claim}.",
        "",
        _verdict(each),
        "",
        "| " + " | ".join(map(str, table.columns)) + " |",
        "|---" * len(table.columns) + "|",
        *("| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)),
        "",
        f"![{each.finding.title}]({picture})",
        "",
    ]
    return "\n".join(lines)


def _verdict(each: Shown) -> str:
    judgement = each.judgement
    words = judgement.words[0].upper() + judgement.words[1:]
    return f"Here, {len(each.runs)} runs: {judgement.held}. {words}."


ALL = "all"


def find_findings(name: str) -> tuple[Finding, ...]:
    """Return the finding of a name, or all of them for `all`.

    Raises:
        InvalidInput: the name is unknown.
    """
    if name == ALL:
        return tuple(FINDINGS.values())
    if name not in FINDINGS:
        raise unknown_name("finding", name, [*FINDINGS, ALL])
    return (FINDINGS[name],)
