"""What a study holds, as data to read: trials, their ranking, the best, and what pruning saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput
from tuner.rotation import RotationCurve
from tuner.study.catalog import DEFAULT_FOLDER, find_study, open_for_reading
from tuner.study.database import close_database, open_database
from tuner.study.pruners import MAX_EPOCHS, METRIC
from tuner.study.record import AUDIT, CHECKPOINT, REASON, curve_of, read_test, seconds_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

NUM_TRIALS = "num_trials"  # study attribute
SPACE = "space"  # study attribute: what the space may suggest

State = Literal["complete", "pruned", "failed", "running"]
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    # An interrupted trial waits in the study to go on from its checkpoint.
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}
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
        checkpoint: folder of the newest checkpoint, or None.
        test: metrics on the test split by name, such as test_accuracy, as last reported; no
            pruner sees them.
        audit: why it would have been pruned, had it not been trained on to measure what pruning
            costs; empty otherwise.
    """

    number: int
    state: State
    value: float
    params: dict[str, Any]
    curve: RotationCurve
    epochs: float
    seconds: float
    reason: str
    checkpoint: Path | None
    test: dict[str, float] = field(default_factory=dict)
    audit: str = ""

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
            InvalidInput: the trial has no checkpoint of a `RotationTrainable`.
        """
        import torch

        file = self.checkpoint / "model.pt" if self.checkpoint else None
        if file is None or not file.exists():
            raise InvalidInput(
                f"trial {self.number} must have a checkpoint with a model.pt, has "
                f"{self.checkpoint}; complete trials of a RotationTrainable have one"
            )
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
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    num_trials: int
    space: str
    trials: tuple[TrialResult, ...]

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
                    **{f"params/{name}": value for name, value in trial.params.items()},
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


def load_study(name_or_url: str, *, folder: Path | str = DEFAULT_FOLDER) -> StudyResult:
    """Read a study, running or finished.

    Args:
        name_or_url: the name it was run under, or ``URL#name`` of one in a database
            (``#name`` may be left out where the database holds one study).
        folder: where studies are kept, for a name.

    Raises:
        InvalidInput: there is no such study.
    """
    if "://" not in name_or_url:
        home = find_study(name_or_url.rstrip("/"), folder)
        storage, path, name = open_for_reading(home), home.path, home.name
    else:
        url, _, name = name_or_url.partition("#")
        storage, path = open_database(url, must_exist=True), None
    try:
        return read_result(_open_study(storage, name, path), path)
    finally:
        close_database(storage)


def _open_study(storage: BaseStorage, name: str, folder: Path | None) -> optuna.Study:
    """Open a storage's study of a name, or its only one: a renamed folder still holds it."""
    names = sorted(study.study_name for study in storage.get_all_studies())
    if folder and not names:
        raise InvalidInput(
            f"a study must have been begun to be read, {name!r} holds nothing yet; run it"
        )
    if name not in names and ((name and not folder) or len(names) != 1):
        raise InvalidInput(
            f"a database URL must name one of its studies, got {name or 'none'!r}; "
            f"use URL#NAME with one of: {', '.join(names) or 'none there'}"
        )
    study = optuna.load_study(study_name=name if name in names else names[0], storage=storage)
    if len(study.directions) > 1:
        raise InvalidInput(
            f"study {study.study_name!r} must have one objective to be ranked, it has "
            f"{len(study.directions)}; name another study"
        )
    return study


def read_result(study: optuna.Study, folder: Path | None) -> StudyResult:
    """Read an open study; checkpoints are looked for under `folder`."""
    attrs = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    # A study made with plain Optuna does not say how long a whole trial is.
    longest = max((trial.last_step or 0 for trial in trials), default=0)
    max_epochs = int(attrs.get(MAX_EPOCHS, max(1, longest)))
    return StudyResult(
        name=study.study_name,
        metric=attrs.get(METRIC, "value"),
        mode="max" if study.direction == optuna.study.StudyDirection.MAXIMIZE else "min",
        max_epochs=max_epochs,
        num_trials=int(attrs.get(NUM_TRIALS, 0)),
        space=attrs.get(SPACE, ""),
        trials=tuple(_read_trial(trial, max_epochs, folder) for trial in trials),
    )


def _read_trial(trial: FrozenTrial, max_epochs: int, folder: Path | None) -> TrialResult:
    curve = curve_of(trial, max_epochs)
    value = trial.value if trial.value is not None else math.nan
    if math.isnan(value) and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    checkpoint = trial.user_attrs.get(CHECKPOINT)
    return TrialResult(
        number=trial.number,
        state=STATES[trial.state],
        value=value,
        params=trial.params,
        curve=curve,
        epochs=curve.epochs[-1] if len(curve) else 0,
        seconds=seconds_of(trial),
        reason=trial.user_attrs.get(REASON, ""),
        checkpoint=folder / "trials" / checkpoint if checkpoint and folder else None,
        test=read_test(trial),
        audit=_text(trial.user_attrs.get(AUDIT)),
    )


def _text(value: object) -> str:
    """A study made elsewhere may mean something else by an attribute's name."""
    return value if isinstance(value, str) else ""
