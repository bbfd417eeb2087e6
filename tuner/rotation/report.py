"""EpochReport: one report of one trial, in the three forms in which it is stored.

A trainable returns a flat dict, the study holds a JSON attribute, and a recording holds a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from tuner.errors import InvalidInput

ROTATION_PREFIX = "rotation/"
TEST_PREFIX = "test_"
# Ray Tune adds these two keys to every result. They replace the epochs and the seconds that a
# trainable does not report.
ITERATION = "training_iteration"
ITERATION_S = "time_this_iter_s"
# Keys of a report that name no metric.
_NOT_METRICS = frozenset(
    {"epoch", "progress", "lr_progress", "epoch_s", "rotation_min", "rotation_mean"}
    | {ITERATION, ITERATION_S}
)
# The precision of float32 weights limits a distance to this many decimals.
_DECIMALS = 6
# Characters of a value that a message shows, at most.
_SHOWN = 60


@dataclass(frozen=True)
class EpochReport:
    """One report of one trial.

    Attributes:
        epoch: epochs finished, > 0; a fraction for a report within an epoch.
        layers: names of the layers, in model order.
        distances: cosine distance from initialisation of each layer; NaN where unknown.
        lr_progress: share of the run's total learning rate spent, in (0, 1]; NaN if unknown.
        train_loss: mean training loss since the last report; NaN if unknown. If a trial reported
            NaN, it is infinite here.
        metric: the job's metric; None if the trial did not report it, as within an epoch.
        epoch_s: seconds since the last report; NaN if unknown.
        test: metrics on the test split, by name; empty for a report that is read from a study.
        numbers: every number that the trial reported, by key; empty for a report that is read from
            a study.

    Raises:
        InvalidInput: the epoch is not > 0.

    Example:
        >>> result = {"epoch": 3, "val_accuracy": 0.8, "train_loss": 0.5, "rotation/conv": 0.25}
        >>> report = EpochReport.from_result(result, metric="val_accuracy", max_epochs=20)
        >>> report.layers, report.distances, report.metric
        (('conv',), (0.25,), 0.8)
    """

    epoch: float
    layers: tuple[str, ...] = ()
    distances: tuple[float, ...] = ()
    lr_progress: float = math.nan
    train_loss: float = math.nan
    metric: float | None = None
    epoch_s: float = math.nan
    test: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.epoch > 0:
            raise InvalidInput(
                f"step must be > 0, the epochs finished, got {self.epoch:g}; count epochs from 1"
            )

    @classmethod
    def from_result(cls, result: Mapping[str, Any], metric: str, max_epochs: int) -> EpochReport:
        """Parse the flat dict that a trainable returned.

        Args:
            result: the report by key; `trainables.RotationTrainable` lists the keys. Of the keys
                that Ray Tune adds, only `training_iteration` and `time_this_iter_s` are read.
            metric: the key of the job's metric.
            max_epochs: epochs of a whole trial, >= 1.

        Raises:
            InvalidInput: the epoch is not > 0, the metric or another value that is read is not a
                number, or the metric of a whole epoch is missing.
        """
        epoch = epoch_of(result, metric, max_epochs)
        rotation = {
            # Rounded here, so that a curve in memory equals the curve that the study holds.
            key.removeprefix(ROTATION_PREFIX): round(_number(result, key), _DECIMALS)
            for key in result
            if key.startswith(ROTATION_PREFIX)
        }
        numbers = {key: float(value) for key, value in _numbers(result)}
        return cls(
            epoch=epoch,
            layers=tuple(rotation),
            distances=tuple(rotation.values()),
            lr_progress=_number(result, "lr_progress"),
            train_loss=_train_loss(result),
            metric=_metric(result, metric, epoch),
            epoch_s=_number(result, "epoch_s" if "epoch_s" in result else ITERATION_S),
            test={key: value for key, value in numbers.items() if key.startswith(TEST_PREFIX)},
            numbers={
                key: value for key, value in numbers.items() if key not in (ITERATION, ITERATION_S)
            },
        )

    @classmethod
    def from_attribute(
        cls,
        epoch: float,
        layers: tuple[str, ...],
        stored: Mapping[str, Any],
        metric: float | None,
    ) -> EpochReport:
        """Return the report that a study holds.

        Args:
            epoch: epochs finished, > 0.
            layers: names of the trial's layers, in model order.
            stored: the JSON of `to_attribute`; empty if the trial reported only its metric.
            metric: the metric at this epoch; None if there is none.
        """
        distances = tuple(math.nan if d is None else d for d in stored.get("distances", ()))
        return cls(
            epoch=epoch,
            layers=layers,
            distances=distances or (math.nan,) * len(layers),
            lr_progress=read_number(stored, "lr_progress"),
            train_loss=read_number(stored, "train_loss"),
            metric=metric,
            epoch_s=read_number(stored, "epoch_s"),
        )

    def to_attribute(self) -> dict[str, Any]:
        """Return the JSON that the study stores; the metric and the layers are stored elsewhere.

        An unknown number is null.
        """
        return {
            "distances": [stored_number(round(distance, _DECIMALS)) for distance in self.distances],
            "lr_progress": stored_number(self.lr_progress),
            "train_loss": stored_number(self.train_loss),
            "epoch_s": stored_number(self.epoch_s),
        }

    def to_result(self, metric: str) -> dict[str, float]:
        """Return the known numbers of the report by flat key.

        Args:
            metric: the key of the job's metric.
        """
        known = [distance for distance in self.distances if not math.isnan(distance)]
        flat = {
            metric: math.nan if self.metric is None else self.metric,
            "train_loss": self.train_loss,
            "lr_progress": self.lr_progress,
            **{
                f"{ROTATION_PREFIX}{layer}": distance
                for layer, distance in zip(self.layers, self.distances, strict=True)
            },
            "rotation_min": min(known, default=math.nan),
            "rotation_mean": math.fsum(known) / len(known) if known else math.nan,
            **self.test,
        }
        return {key: number for key, number in flat.items() if not math.isnan(number)}


def epoch_of(result: Mapping[str, Any], metric: str, max_epochs: int) -> float:
    """Return the epochs finished at a result.

    If a trainable does not report its epochs, each report counts as one epoch.

    Args:
        result: the report by key.
        metric: the key of the job's metric.
        max_epochs: epochs of a whole trial, >= 1.
    """
    if "progress" in result and metric not in result:
        return round(_number(result, "progress") * max_epochs, 6)
    if "epoch" in result:
        return _number(result, "epoch")
    return float(result.get(ITERATION, 1))


def is_report(result: Mapping[str, Any]) -> bool:
    """Whether a result contains a report; the last result of a trial may only mark its end."""
    return any(_names_metric(key) for key in result)


def _metric(result: Mapping[str, Any], metric: str, epoch: float) -> float | None:
    if metric not in result:
        if not epoch.is_integer():
            return None
        reported = sorted(key for key in result if _names_metric(key)) or ["nothing"]
        raise InvalidInput(
            f"every epoch must report the metric, {metric!r} was not among: "
            f"{', '.join(reported)}; name one of these as metric, or report it"
        )
    try:
        return float(result[metric])
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError is torch's
        raise InvalidInput(
            f"the metric must be a number, {metric!r} was {_shortened(result[metric])}; report a "
            "float"
        ) from error


def _train_loss(result: Mapping[str, Any]) -> float:
    loss = _number(result, "train_loss")
    # NaN means unknown everywhere else.
    return math.inf if "train_loss" in result and math.isnan(loss) else loss


def _number(result: Mapping[str, Any], key: str) -> float:
    """Return a number that a trainable reported; NaN where the key is missing.

    Raises:
        InvalidInput: the value is no number.
    """
    value = result.get(key, math.nan)
    try:
        if isinstance(value, str | bytes | bool):  # float() would read some of them
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError is torch's
        raise InvalidInput(
            f"a report's {key} must be a number, got {_shortened(value)}; report a float, or leave "
            "the key out"
        ) from error


def _shortened(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in result.items():
        if isinstance(value, Real) and not isinstance(value, bool):
            yield key, value


def _names_metric(key: str) -> bool:
    return key not in _NOT_METRICS and not key.startswith(ROTATION_PREFIX)


def stored_number(value: float) -> float | None:
    """Return a number as JSON holds it: NaN is null, because some databases do not keep NaN."""
    return None if math.isnan(value) else value


def read_number(stored: Mapping[str, Any], key: str) -> float:
    """Return a stored number by its key; NaN if it is null or missing."""
    value = stored.get(key)
    return math.nan if value is None else float(value)
