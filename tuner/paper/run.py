"""show: make the runs that some findings need, each once, and judge them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tuner.engine.run import run
from tuner.paper.finding import Finding, Judgement
from tuner.paper.grid import Grid
from tuner.paper.plan import Plan
from tuner.paper.runs import table_of
from tuner.study.result import StudyResult


@dataclass(frozen=True)
class Shown:
    """A finding and what came out.

    `runs` has a row for each run (see `runs.table_of`); `seeds` is how often each was made.
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
    """Make a plan's runs and judge each finding; a study that is finished is only read.

    Args:
        plan: what to run.
        begun: told of each grid before it is run, with its number from 1 and how many there are.
        fields: of every `TuningJob`, such as `folder`, `gpus_per_trial` and `data_dir`.

    Raises:
        InvalidInput: a job's field is out of range, or a study of the same name is of other runs.
        KeyboardInterrupt: it was interrupted; running it again goes on.
    """
    # Made first, so that a field that is out of range is found before anything runs.
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
