"""Plan: which findings to run, at which scale and on which tasks, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables import SCALES
from tuner.errors import InvalidInput, unknown_name
from tuner.paper.finding import Finding
from tuner.paper.grids import Grid


@dataclass(frozen=True)
class Plan:
    """The findings to test, at one scale.

    Attributes:
        scale: "small" or "full".
        seeds: the number of runs of each setting.
        findings: each finding with its grids, by name; findings may share a grid.
    """

    scale: str
    seeds: int
    findings: Mapping[str, tuple[Finding, tuple[Grid, ...]]]

    @property
    def grids(self) -> dict[str, Grid]:
        """Every grid once, by the name of its study."""
        return {
            grid.name(self.scale): grid for _, grids in self.findings.values() for grid in grids
        }


def make_plan(
    findings: Sequence[Finding], scale: str, seeds: int, tasks: Sequence[str] = ()
) -> Plan:
    """Return the plan for some findings, without the findings that use none of the tasks.

    Args:
        findings: values of `findings.FINDINGS`.
        scale: "small" or "full".
        seeds: runs of each setting, >= 1.
        tasks: the names of the tasks to use; all tasks if empty.

    Raises:
        InvalidInput: a value is outside its range.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if seeds < 1:
        raise InvalidInput(f"seeds must be >= 1, got {seeds}; use 2 to compare seeds")
    every = {finding.name: (finding, finding.grids(scale)) for finding in findings}
    known = dict.fromkeys(grid.task for _, grids in every.values() for grid in grids)
    for task in tasks:
        if task not in known:
            raise unknown_name("task", task, known)
    wanted = {
        name: (finding, tuple(g.with_seeds(seeds) for g in grids if not tasks or g.task in tasks))
        for name, (finding, grids) in every.items()
    }
    return Plan(scale, seeds, {name: pair for name, pair in wanted.items() if pair[1]})
