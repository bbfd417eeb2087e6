"""Finding: a claim of the paper, the runs that test it, its judgement and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from tuner.paper.grids import Grid
from tuner.vega import AnyChart

Held = Literal["held", "held in part", "not held", "not testable here"]


@dataclass(frozen=True)
class Judgement:
    """The judgement of a finding's claim by its runs.

    Attributes:
        held: whether the claim held here.
        words: the reason, with the figures.
        table: the measurements, with the paper's figures beside them.
    """

    held: Held
    words: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Finding:
    """One finding of the paper.

    Attributes:
        name: the name on the command line.
        title: the heading in the document.
        claim: the paper's claim, with its section.
        grids: returns the runs that test the claim at a scale, without seeds.
        judge: judges the claim by a table of these runs (see `runs.table_of`).
        draw: draws the same table.
    """

    name: str
    title: str
    claim: str
    grids: Callable[[str], tuple[Grid, ...]]
    judge: Callable[[pd.DataFrame], Judgement]
    draw: Callable[[pd.DataFrame], AnyChart]


def overall(by_task: dict[str, bool]) -> Held:
    """Return whether a claim held, given its result on each task that could test it."""
    if not by_task:
        return "not testable here"
    if all(by_task.values()):
        return "held"
    return "held in part" if any(by_task.values()) else "not held"


def share_held(by_task: dict[str, bool]) -> str:
    """Return in words on how many tasks a claim held, and the names of the other tasks."""
    if not by_task:
        return "on no task that could tell"
    failed = [task for task, held in by_task.items() if not held]
    line = f"on {len(by_task) - len(failed)} of {len(by_task)} tasks"
    return f"{line}, not on {', '.join(failed)}" if failed else line
