"""Grid: runs of one task at every combination of some settings, and the grids of the findings.

The settings are from the authors' code. Only the wide ResNet under SGD has momentum (.9, Nesterov).
Only the grids with L2 have weight decay. Keras adds `l2 * sum(w^2)` to the loss, so the authors' l2
is half of a `weight_decay` here.
"""

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
        label: distinguishes the grids of a task; a part of the study's name. Findings that need
            the same runs have grids of the same label, and share one study.
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
        """Return the name of the grid's study."""
        return f"paper-{self.task}-{self.label}-{scale}"

    def with_seeds(self, seeds: int) -> Grid:
        """Return the grid with each run repeated for this many seeds."""
        axes = {**self.axes, "seed": tuple(range(seeds))}
        return Grid(self.task, self.label, axes, self.constants)

    def job(self, scale: str, **fields: Any) -> TuningJob:
        """Return the job of all runs, without pruning, for the task's own epochs.

        Args:
            scale: "small" or "full".
            fields: more fields of the job, such as `folder`.
        """
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


TASKS = ("c10-cnn1", "c100-resnet", "tiny-cnn", "c10-cnn2", "c100-wrn")
"""The five tasks of most of the paper's experiments."""

ADAPTIVE = {
    "c10-cnn1": "rmsprop",
    "c100-resnet": "adam",
    "tiny-cnn": "adagrad",
    "c10-cnn2": "rmsprop",
    "c100-wrn": "adam",
}
"""The adaptive method with which the paper trains each task."""

# The authors use 1e-3 and 5e-4 in Keras's terms.
L2 = {task: 1e-3 if task in ("c10-cnn2", "c100-wrn") else 2e-3 for task in TASKS}
# The small runs have a fiftieth of the steps, in which the authors' L2 has almost no effect.
_SMALL_L2 = 10


def powers(first: int, last: int) -> tuple[float, ...]:
    """Return 3^first, 3^(first - 1) ... 3^last.

    Example:
        >>> powers(1, -1)
        (3.0, 1.0, 0.3333333333333333)
    """
    return tuple(3.0**exponent for exponent in range(first, last - 1, -1))


def sgd(task: str, scale: str) -> Grid:
    """SGD without weight decay; the authors try 3^2 to 3^-7 and show 3^0 to 3^-4."""
    rates = powers(2, -7) if scale == "full" else powers(0, -4)
    return Grid(task, "sgd", {"lr": rates}, {**_sgd(task), "weight_decay": 0.0})


def sgd_l2(task: str, scale: str) -> Grid:
    """SGD with L2, at the rates around its best."""
    l2 = L2[task] if scale == "full" else L2[task] * _SMALL_L2
    return Grid(task, "sgd-l2", {"lr": powers(0, -2)}, {**_sgd(task), "weight_decay": l2})


def _sgd(task: str) -> dict[str, Choice]:
    wide = task == "c100-wrn"
    return {"optimizer": "sgd", "momentum": 0.9 if wide else 0.0, "nesterov": wide}


def layca(task: str, scale: str) -> Grid:
    """Layca over plain SGD; the authors try 3^2 to 3^-7 and show 3^0 to 3^-7."""
    rates = powers(0, -7) if scale == "full" else powers(-1, -5)
    return Grid(task, "layca", {"lr": rates}, {"optimizer": "layca", "momentum": 0.0})


def adaptive(task: str, scale: str) -> Grid:
    """The task's adaptive method by itself."""
    rates = powers(-2, -7) if scale == "full" else powers(-3, -6)
    return Grid(task, "adaptive", {"lr": rates}, {"optimizer": ADAPTIVE[task]})


def adaptive_layca(task: str, scale: str) -> Grid:
    """Layca over the task's adaptive method."""
    rates = powers(-2, -6) if scale == "full" else powers(-2, -5)
    return Grid(task, "adaptive-layca", {"lr": rates}, {"optimizer": f"layca-{ADAPTIVE[task]}"})
