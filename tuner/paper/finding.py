"""Finding: a claim of the paper, the runs that test it, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

from tuner.paper.grids import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Held = Literal["held", "held in part", "not held", "not testable here"]


@dataclass(frozen=True)
class Judgement:
    """What came out.

    Attributes:
        held: whether the claim held here.
        words: why, with the figures.
        table: what was measured, with the paper's figures beside it.
    """

    held: Held
    words: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Finding:
    """One finding of the paper.

    Attributes:
        name: on the command line.
        title: a heading.
        claim: what the paper found, and where.
        grids: the runs that it takes at a scale, without seeds.
        judge: what a table of these runs shows (see `runs.table_of`).
        draw: the same as a figure.
    """

    name: str
    title: str
    claim: str
    grids: Callable[[str], tuple[Grid, ...]]
    judge: Callable[[pd.DataFrame], Judgement]
    draw: Callable[[pd.DataFrame], Figure]


def overall(by_task: dict[str, bool]) -> Held:
    """Return whether a claim held, of what it did on each task; without any it was not testable."""
    if not by_task:
        return "not testable here"
    if all(by_task.values()):
        return "held"
    return "held in part" if any(by_task.values()) else "not held"


def told(by_task: dict[str, bool]) -> str:
    """Return on how many tasks a claim held, and on which it did not."""
    if not by_task:
        return "on no task that could tell"
    failed = [task for task, held in by_task.items() if not held]
    line = f"on {len(by_task) - len(failed)} of {len(by_task)} tasks"
    return f"{line}, not on {', '.join(failed)}" if failed else line
