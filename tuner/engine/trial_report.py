"""What a trainable's result says, read and checked once before a decision is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS, DONE, SHOULD_CHECKPOINT

from tuner.errors import InvalidInput
from tuner.storage.optuna_internals import stored_trial
from tuner.study.schema import ADVICE, reports_of

_ROTATION = "rotation/"
_TEST = "test_"
# What Ray adds to every result, and what a report carries besides metrics.
_OWN_KEYS = ("epoch", "progress", "lr_progress", "epoch_s", "rotation_min", "rotation_mean")
_RAYS_KEYS = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, DONE, SHOULD_CHECKPOINT}
_NOT_METRICS = {*_RAYS_KEYS, *_OWN_KEYS}


@dataclass(frozen=True)
class Report:
    """One report of a trial.

    Attributes:
        epoch: epochs finished, fractions included.
        value: the metric; None within an epoch, where there is none.
        distances: cosine distance from initialisation per layer.
        lr_progress, train_loss, epoch_s: as in `report_rotation`. A train loss that was reported
            as not a number is infinite here: NaN stands for an unknown one.
        test: metrics on the test split, by name.
    """

    epoch: float
    value: float | None
    distances: dict[str, float]
    lr_progress: float
    train_loss: float
    epoch_s: float
    test: dict[str, float]


def read(result: Mapping[str, Any], metric: str, max_epochs: int) -> Report:
    """Return what a flat result says.

    Raises:
        InvalidInput: it is of a whole epoch and lacks the metric, or that is not a number.
    """
    epoch = epoch_of(result, metric, max_epochs)
    return Report(
        epoch=epoch,
        value=_value(result, metric, epoch),
        distances={
            key.removeprefix(_ROTATION): float(distance)
            for key, distance in result.items()
            if key.startswith(_ROTATION)
        },
        lr_progress=float(result.get("lr_progress", math.nan)),
        train_loss=_loss(result),
        epoch_s=seconds_of(result),
        test={
            key: float(number)
            for key, number in result.items()
            if key.startswith(_TEST) and _is_number(number)
        },
    )


def epoch_of(result: Mapping[str, Any], metric: str, max_epochs: int) -> float:
    """Return the epochs finished; a trainable that does not say how many counts its reports."""
    if "progress" in result and metric not in result:
        return round(float(result["progress"]) * max_epochs, 6)
    return float(result.get("epoch", result.get("training_iteration", 1)))


def seconds_of(result: Mapping[str, Any]) -> float:
    """Return the seconds since the last report; NaN if unknown."""
    return float(result.get("epoch_s", result.get("time_this_iter_s", math.nan)))


def numbers_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return every number that a trial itself reported, by its key."""
    return {
        key: float(value)
        for key, value in result.items()
        if key not in _RAYS_KEYS and _is_number(value) and not key.startswith("config/")
    }


def says_anything(result: Mapping[str, Any]) -> bool:
    """Whether a result holds more than what Ray adds: it has none of a trial that only ended."""
    return any(_is_reported(key) for key in result)


def _value(result: Mapping[str, Any], metric: str, epoch: float) -> float | None:
    if metric not in result:
        if not epoch.is_integer():
            return None
        reported = sorted(key for key in result if _is_reported(key)) or ["nothing"]
        raise InvalidInput(
            f"every epoch must report the metric, {metric!r} was not among: "
            f"{', '.join(reported)}; name one of these as metric, or report it"
        )
    try:
        return float(result[metric])
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"the metric must be a number, {metric!r} was {result[metric]!r}; report a float"
        ) from error


def _loss(result: Mapping[str, Any]) -> float:
    loss = float(result.get("train_loss", math.nan))
    return math.inf if "train_loss" in result and math.isnan(loss) else loss


def _is_reported(key: str) -> bool:
    return key not in _NOT_METRICS and not key.startswith((_ROTATION, "config/"))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def known_of(trial: optuna.Trial) -> FrozenTrial:
    """Return all that is recorded of a trial by now."""
    return stored_trial(trial)


def reached(trial: optuna.Trial) -> tuple[float, float]:
    """Return the epochs that a trial has reported, and its last metric; NaN before the first."""
    known = known_of(trial)
    step = known.last_step
    value = math.nan if step is None else known.intermediate_values[step]
    return max(reports_of(known), default=0.0), value


def is_advised(trial: optuna.Trial) -> bool:
    """Whether a trial tests an advice; it may then lie outside of the space."""
    return ADVICE in known_of(trial).user_attrs
