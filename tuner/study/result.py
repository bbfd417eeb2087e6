"""StudyResult: the trials of a study, their ranking, and the epochs saved and still to train."""

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
Status = Literal["complete", "pruned", "failed", "running", "paused", "interrupted", "waiting"]
"""What a trial does now. A trial of the state "running" may be paused, interrupted or waiting."""
_ORDER: dict[State, int] = {"complete": 0, "running": 1, "pruned": 2, "failed": 3}


@dataclass(frozen=True)
class TrialResult:
    """One trial of a study.

    Attributes:
        number: counted from 0, in the order of suggestion.
        state: how the trial ended, or "running".
        value: the metric at the last whole epoch reported; NaN before the first.
        params: the suggested parameters by name.
        curve: all reports, with the distance of each layer.
        epochs: whole epochs trained.
        seconds: seconds spent on these epochs.
        reason: why the trial was pruned or failed; empty otherwise.
        checkpoint: folder or URL of the newest checkpoint, or None.
        test: the last metrics on the test split by name, such as test_accuracy. Pruners do not
            read them.
        audit: the reason to prune the trial, if it is a control trial; empty otherwise.
        advice: the title of the advice that the trial tests; empty otherwise.
        start: the point of the ladder, for one of the study's first trials; empty otherwise.
        config: config entries that were enqueued with the trial; they override its space.
        optimizer: the name of the optimizer; empty where the config names none.
        status: its state, but "paused" at a rung, "interrupted" where nobody runs the study now, or
            "waiting" if it was enqueued; None if that is not known.
        error: the file with the traceback of a failed trial, or None.
        retry_of: the number of the failed trial that this one repeats, or None.
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
    status: Status | None = None
    error: str | None = None
    retry_of: int | None = None

    @property
    def setting(self) -> dict[str, Any]:
        """The parameters, overridden by the enqueued config entries."""
        return {**self.params, **self.config}

    @property
    def rotation(self) -> dict[str, float]:
        """Cosine distance of each layer from initialisation at the last report; empty if none."""
        last = self.curve.distances[-1] if self.curve.distances else ()
        return {
            layer: distance
            for layer, distance in zip(self.curve.layers, last, strict=False)
            if not math.isnan(distance)
        }

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of the newest checkpoint for `model.load_state_dict`.

        Raises:
            InvalidInput: the trial has no checkpoint of a `RotationTrainable`, or it cannot be read
                from here.
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
    """The epochs that pruning saved, against training every finished trial to its end.

    Attributes:
        epochs: the epochs that were not trained, >= 0.
        share: their share of all epochs without pruning, in [0, 1].
    """

    epochs: float
    share: float


@dataclass(frozen=True)
class StudyResult:
    """A study as it was when it was read; `load_study` and `run` return it.

    Attributes:
        name: the name of the study.
        metric: the name of the metric that is optimised.
        mode: "min" or "max".
        max_epochs: epochs of a whole trial.
        num_trials: the number of trials that the job asks for.
        space: the search space as canonical JSON; empty for a study of another program.
        trials: the trials, by number.
        checkpoints: folder or URL of the checkpoints of all trials; None for the study's folder.
        rotation_target: the distances that the layers should reach; the default target for a study
            that stores none.
        warmup_epochs: the first epoch at which trials are compared, > 0.

    Example:
        >>> import optuna
        >>> from tuner.study.load import read_result
        >>> study = optuna.create_study(study_name="digits", direction="maximize")
        >>> for accuracy in (0.6, 0.8, 0.7):
        ...     study.add_trial(optuna.create_trial(value=accuracy))
        >>> result = read_result(study, folder=None)
        >>> result.best.number, result.best.value
        (1, 0.8)
        >>> [trial.number for trial in result.ranked]
        [1, 2, 0]
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
        """The trials, best first: complete, running, pruned, failed, and each group by metric."""
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
            InvalidInput: no trial is complete yet.
        """
        if not self.ranked or self.ranked[0].state != "complete":
            raise InvalidInput(
                f"study {self.name!r} must have a complete trial to have a best one, has none "
                f"among {len(self.trials)}; run more trials or prune less"
            )
        return self.ranked[0]

    @property
    def finished(self) -> bool:
        """Whether all trials that the job asks for have ended."""
        ended = sum(trial.state != "running" for trial in self.trials)
        return ended >= self.num_trials

    @property
    def saved(self) -> Saved:
        """The epochs that pruning saved in complete and pruned trials."""
        finished = [trial for trial in self.trials if trial.state in ("complete", "pruned")]
        whole = len(finished) * self.max_epochs
        spent = sum(trial.epochs for trial in finished)
        return Saved(epochs=whole - spent, share=(whole - spent) / whole if whole else 0.0)

    def ranking(self) -> pd.DataFrame:
        """Return the ranking, one row per trial: the report's columns, then the parameters."""
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
        """Return all reports, one row per trial and epoch.

        The rotation of each layer is a column ``rotation/<layer>``.
        """
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
    """Return a mapping as text, because it cannot be sorted or written as one column."""
    return str(value) if isinstance(value, dict) else value


def epochs_to_come(
    *,
    ended: Sequence[float],
    running: Sequence[float],
    waiting: Sequence[float],
    new: int,
    max_epochs: float,
) -> float:
    """Return an estimate of the epochs that a study still has to train.

    The estimate assumes that a running trial trains as long as the ended trials that reached the
    same epoch. A new trial trains as long as the other trials on average. Most paused trials are
    pruned in the end. A promoted trial takes the place of a later trial, so only one paused trial
    is counted, to its end: each rung has one more place once no new trial will be started. On
    recorded studies the estimate was about half to twice the epochs trained (docs/log.md,
    2026-11-25).

    Args:
        ended: epochs of the trials that have ended, >= 0.
        running: epochs of the trials that run now or next.
        waiting: epochs of the trials that are paused at a rung.
        new: the number of trials that will still be created, >= 0.
        max_epochs: epochs of a whole trial.

    Example:
        >>> epochs_to_come(ended=[20, 4], running=[2], waiting=[], new=1, max_epochs=20)
        22.0
    """
    settled = np.sort([*ended, *waiting])
    after = np.append(np.cumsum(settled[::-1])[::-1], 0.0)  # the sum from each index on
    before = np.asarray(running, dtype=float)
    place = np.searchsorted(settled, before)
    peers = len(settled) - place
    # If no other trial has reached this epoch, the trial may run to its end.
    last = np.where(peers, after[place] / np.maximum(peers, 1), max_epochs)
    made = len(settled) + len(before)
    mean = (after[0] + last.sum()) / made if made else max_epochs
    one = max_epochs - min(waiting) if waiting else 0.0
    return float((last - before).sum() + new * mean + one)
