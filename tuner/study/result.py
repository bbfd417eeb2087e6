"""StudyResult: trials, ranking, the best trial, what pruning saved, and the epochs left."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tuner.errors import InvalidInput
from tuner.rotation import PruningConfig, RotationCurve, RotationTarget
from tuner.storage.paths import StoragePath, unusable

if TYPE_CHECKING:
    import pandas as pd
    import torch


State = Literal["complete", "pruned", "failed", "running"]
_ORDER: dict[State, int] = {"complete": 0, "running": 1, "pruned": 2, "failed": 3}


@dataclass(frozen=True)
class TrialResult:
    """One trial as the study has it.

    Attributes:
        number: from 0, in the order of their suggestion.
        value: the metric at the last whole epoch reported; NaN before the first.
        curve: everything reported, per report and layer.
        epochs: whole epochs trained; seconds: spent on them.
        reason: why it was pruned or failed; empty otherwise.
        checkpoint: folder or URL of the newest checkpoint, or None.
        test: metrics on the test split by name, such as test_accuracy, as last reported; no
            pruner sees them.
        audit: why it would have been pruned, had it not been trained on to measure what pruning
            costs; empty otherwise.
        advice: which advice it tests, if it was enqueued for one; empty otherwise.
        start: which of the study's first trials it is, if its rotation was set for that; empty
            otherwise.
        config: config entries that it was enqueued with, over what its space gives.
        optimizer: the name of its optimizer; empty where its config names none.
    """

    number: int
    state: State
    value: float
    params: dict[str, Any]
    curve: RotationCurve
    epochs: float
    seconds: float
    reason: str
    checkpoint: str | None
    test: dict[str, float] = field(default_factory=dict)
    audit: str = ""
    advice: str = ""
    start: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    optimizer: str = ""

    @property
    def setting(self) -> dict[str, Any]:
        """Its parameters, and over them the config entries that it was enqueued with."""
        return {**self.params, **self.config}

    @property
    def rotation(self) -> dict[str, float]:
        """Cosine distance from initialisation per layer at the last report; empty if none."""
        last = self.curve.distances[-1] if self.curve.distances else ()
        return {
            layer: distance
            for layer, distance in zip(self.curve.layers, last, strict=False)
            if not math.isnan(distance)
        }

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the newest checkpoint's weights for `model.load_state_dict`.

        Raises:
            InvalidInput: the trial has no checkpoint of a `RotationTrainable`, or none that can be
                read from here.
        """
        import torch

        lacking = InvalidInput(
            f"trial {self.number} must have a checkpoint with a model.pt, has "
            f"{self.checkpoint}; complete trials of a RotationTrainable have one"
        )
        if self.checkpoint is None:
            raise lacking
        place = StoragePath(self.checkpoint)
        try:
            file = io.BytesIO(place.read("model.pt"))
        except FileNotFoundError as error:
            raise lacking from error
        except OSError as error:
            raise unusable(place, error) from error
        weights: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)[
            "model"
        ]
        return weights


@dataclass(frozen=True)
class Saved:
    """What pruning saved, against training every finished trial to its end.

    Attributes:
        epochs: not trained, >= 0.
        share: of the epochs that all would have taken, in [0, 1].
    """

    epochs: float
    share: float


@dataclass(frozen=True)
class StudyResult:
    """A study as it stood when it was read.

    Attributes:
        metric: what is optimised; mode: "min" or "max"; max_epochs: of a whole run.
        num_trials: how many the job asks for in all.
        space: what may be suggested, as canonical JSON; empty for a study made elsewhere.
        checkpoints: folder or URL that holds those of all trials; None for the study's folder.
        rotation_target: what the layers should reach; the default for a study that stores none.
        warmup_epochs: the first epoch at which trials are compared, > 0.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    num_trials: int
    space: str
    trials: tuple[TrialResult, ...]
    checkpoints: str | None = None
    rotation_target: RotationTarget = field(default_factory=RotationTarget)
    warmup_epochs: float = PruningConfig.warmup_epochs

    @cached_property
    def ranked(self) -> tuple[TrialResult, ...]:
        """The trials, best first: complete, then running, pruned and failed, each by the metric."""
        sign = -1 if self.mode == "max" else 1

        def key(trial: TrialResult) -> tuple[float, ...]:
            unknown = math.isnan(trial.value)
            worth = 0.0 if unknown else sign * trial.value
            return (_ORDER[trial.state], unknown, worth, trial.number)

        return tuple(sorted(self.trials, key=key))

    @property
    def best(self) -> TrialResult:
        """The complete trial with the best metric.

        Raises:
            InvalidInput: none is complete yet.
        """
        if not self.ranked or self.ranked[0].state != "complete":
            raise InvalidInput(
                f"study {self.name!r} must have a complete trial to have a best one, has none "
                f"among {len(self.trials)}; run more trials or prune less"
            )
        return self.ranked[0]

    @property
    def finished(self) -> bool:
        """Whether every trial that the job asks for has ended."""
        ended = sum(trial.state != "running" for trial in self.trials)
        return ended >= self.num_trials

    @property
    def saved(self) -> Saved:
        finished = [trial for trial in self.trials if trial.state in ("complete", "pruned")]
        whole = len(finished) * self.max_epochs
        spent = sum(trial.epochs for trial in finished)
        return Saved(epochs=whole - spent, share=(whole - spent) / whole if whole else 0.0)

    def ranking(self) -> pd.DataFrame:
        """Return the ranked table, one row per trial, the report's columns and then parameters."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "rank": rank,
                    "trial": trial.number,
                    "state": trial.state,
                    self.metric: trial.value,
                    "rotation_min": min(trial.rotation.values(), default=math.nan),
                    "rotation_min_layer": min(
                        trial.rotation, key=trial.rotation.__getitem__, default=""
                    ),
                    "rotation_mean": (
                        math.fsum(trial.rotation.values()) / len(trial.rotation)
                        if trial.rotation
                        else math.nan
                    ),
                    "epochs": trial.epochs,
                    "seconds": trial.seconds,
                    **{f"params/{name}": _cell(value) for name, value in trial.setting.items()},
                    "reason": trial.reason,
                }
                for rank, trial in enumerate(self.ranked, start=1)
            ],
        )

    def curves(self) -> pd.DataFrame:
        """Return every report of every trial: one row per trial and epoch, rotation per layer as
        columns ``rotation/<layer>``."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "trial": trial.number,
                    "epoch": epoch,
                    "lr_progress": trial.curve.lr_progress[i],
                    "train_loss": trial.curve.train_loss[i],
                    self.metric: trial.curve.metric[i],
                    **{
                        f"rotation/{layer}": distance
                        for layer, distance in zip(
                            trial.curve.layers, trial.curve.distances[i], strict=True
                        )
                    },
                }
                for trial in self.trials
                for i, epoch in enumerate(trial.curve.epochs)
            ]
        )


def _cell(value: Any) -> Any:
    """A mapping can be neither sorted nor written as one column."""
    return str(value) if isinstance(value, dict) else value


def epochs_to_come(
    *,
    ended: Sequence[float],
    running: Sequence[float],
    waiting: Sequence[float],
    new: int,
    max_epochs: float,
) -> float:
    """Return the epochs that are yet to be trained, as far as can be told.

    A running trial is taken to go on as those did that had come as far, and a new one to train as
    much as the others on average. Those that wait for their peers are mostly pruned in the end, all
    at once, and what some of them go on for, others that come later do not: only one of them is
    counted, to its end, since each rung has a place more when nothing new is to come. On recorded
    studies this came out at about half to twice what was trained (docs/log.md, 2026-11-25).

    Args:
        ended: epochs of the trials that have ended, >= 0.
        running: epochs of those that run, or are the next to.
        waiting: epochs of those that wait at a rung.
        new: trials to be made yet, >= 0.
        max_epochs: of a whole trial.
    """
    settled = np.sort([*ended, *waiting])
    after = np.append(np.cumsum(settled[::-1])[::-1], 0.0)  # the sum from each place on
    before = np.asarray(running, dtype=float)
    place = np.searchsorted(settled, before)
    peers = len(settled) - place
    # Nobody has been there before: it may run to its end.
    last = np.where(peers, after[place] / np.maximum(peers, 1), max_epochs)
    made = len(settled) + len(before)
    mean = (after[0] + last.sum()) / made if made else max_epochs
    one = max_epochs - min(waiting) if waiting else 0.0
    return float((last - before).sum() + new * mean + one)
