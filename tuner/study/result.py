"""What a study holds, as data to read: trials, their ranking, the best, and what pruning saved."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import InvalidInput
from tuner.rotation import RotationCurve
from tuner.study.places import Place, unusable

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
        place = Place(self.checkpoint)
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
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    num_trials: int
    space: str
    trials: tuple[TrialResult, ...]
    checkpoints: str | None = None

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
