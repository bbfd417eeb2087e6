"""Grid: runs of one task at every combination of some settings, each trained to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.samplers import GridSampler

import trainables
from tuner.job import TuningJob

Choice = bool | int | float | str


@dataclass(frozen=True)
class Grid:
    """Runs of one task.

    Attributes:
        task: a name of `trainables.PAPER_TASKS`.
        label: what tells this grid from the others of the task, a part of the study's name. Two
            findings that need the same runs have a grid of the same label, and one study.
        axes: config keys and the values of each; every combination is a run.
        constants: config values of all runs.
    """

    task: str
    label: str
    axes: Mapping[str, Sequence[Choice]]
    constants: Mapping[str, Choice] = field(default_factory=dict)

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def name(self, scale: str) -> str:
        """Return the name of its study."""
        return f"paper-{self.task}-{self.label}-{scale}"

    def with_seeds(self, seeds: int) -> Grid:
        """Return the grid with every run made once for each of so many seeds."""
        axes = {**self.axes, "seed": tuple(range(seeds))}
        return Grid(self.task, self.label, axes, self.constants)

    def job(self, scale: str, **fields: Any) -> TuningJob:
        """Return the job that makes all runs, without pruning, for the task's own epochs."""
        trainable = trainables.find(self.task, scale)
        space = {key: CategoricalDistribution(tuple(axis)) for key, axis in self.axes.items()}
        return TuningJob(
            name=self.name(scale),
            trainable=trainable,
            search_space={**self.constants, **space},
            sampler=GridSampler({key: list(axis) for key, axis in self.axes.items()}, seed=0),
            pruner="none",
            num_trials=len(self),
            **fields,
        )
