"""RotationCurve: all reports of one trial so far, as a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tuner.errors import InvalidInput, unknown_name
from tuner.rotation.report import EpochReport

Mode = Literal["min", "max"]
"""Whether a smaller or a larger metric is better."""

# A number may lie outside its range by this rounding error: bf16 resolves 2^-8 near 1.
_ROUNDING = 2**-7


@dataclass(frozen=True)
class RotationCurve:
    """The reports of one trial, oldest first; an update returns a new curve.

    Attributes:
        layers: names of the layers, in model order.
        max_epochs: epochs of the whole run, >= 1.
        epochs: epochs finished at each report, strictly increasing in (0, max_epochs]; a fraction
            for a report within an epoch.
        lr_progress: share of the run's total learning rate spent, in [0, 1], never falling; NaN
            where unknown.
        distances: cosine distance of each layer at each report, in [0, 2], shape
            (reports, layers); NaN where unknown.
        train_loss: mean training loss since the report before; NaN where unknown. At the first
            report only an infinite loss counts as diverged.
        metric: the job's metric; NaN at reports within an epoch.

    Raises:
        InvalidInput: the columns differ in length, or a value breaks its rule above.

    Example:
        >>> curve = RotationCurve(layers=("conv", "fc"), max_epochs=20)
        >>> curve = curve.append(1, {"conv": 0.1, "fc": 0.3}, train_loss=1.2, metric=0.6)
        >>> curve.progress, curve.distances
        (0.05, ((0.1, 0.3),))
    """

    layers: tuple[str, ...]
    max_epochs: int
    epochs: tuple[float, ...] = ()
    lr_progress: tuple[float, ...] = ()
    distances: tuple[tuple[float, ...], ...] = ()
    train_loss: tuple[float, ...] = ()
    metric: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.max_epochs < 1:
            raise InvalidInput(
                f"max_epochs must be >= 1, got {self.max_epochs}; give the length of the run"
            )
        self._check_lengths()
        self._check_order()

    def append(
        self,
        epoch: float,
        distances: Mapping[str, float],
        *,
        lr_progress: float = math.nan,
        train_loss: float = math.nan,
        metric: float = math.nan,
    ) -> RotationCurve:
        """Return the curve with one more report.

        Args:
            epoch: epochs finished, above the last report's.
            distances: cosine distance of each layer, in [0, 2]; NaN for a layer that is missing.
            lr_progress: share of the run's total learning rate spent, in [0, 1]; NaN if unknown.
            train_loss: mean training loss since the last report; NaN if unknown.
            metric: the job's metric; NaN if unknown.

        Raises:
            InvalidInput: `distances` names a layer that the curve lacks, or a value breaks a rule.
        """
        for name in distances.keys() - set(self.layers):
            raise unknown_name("layer", name, self.layers)
        return replace(
            self,
            epochs=(*self.epochs, float(epoch)),
            lr_progress=(*self.lr_progress, _within(lr_progress, "lr_progress", 1.0)),
            distances=(
                *self.distances,
                tuple(
                    _within(distances.get(name, math.nan), f"rotation/{name}", 2.0)
                    for name in self.layers
                ),
            ),
            train_loss=(*self.train_loss, float(train_loss)),
            metric=(*self.metric, float(metric)),
        )

    @classmethod
    def from_reports(
        cls, reports: Iterable[EpochReport], layers: tuple[str, ...], max_epochs: int
    ) -> RotationCurve:
        """Return the curve of all reports of a trial.

        Args:
            reports: the reports, oldest first.
            layers: the layers that each of them names, in model order.
            max_epochs: epochs of the whole run, >= 1.

        Raises:
            InvalidInput: a value breaks a rule.
        """
        reports = tuple(reports)
        return cls(
            layers=layers,
            max_epochs=max_epochs,
            epochs=tuple(report.epoch for report in reports),
            lr_progress=tuple(report.lr_progress for report in reports),
            distances=tuple(report.distances for report in reports),
            train_loss=tuple(report.train_loss for report in reports),
            metric=tuple(_known(report.metric) for report in reports),
        )

    def with_report(self, report: EpochReport) -> RotationCurve:
        """Return the curve with one more report; an empty curve takes the report's layers.

        The values do not change. So a curve that grows report by report equals the curve that is
        read from the study.

        Args:
            report: the next report of the trial.

        Raises:
            InvalidInput: the report names other layers, or a value breaks a rule.
        """
        if not len(self):
            return RotationCurve.from_reports((report,), report.layers, self.max_epochs)
        if report.layers != self.layers:
            raise InvalidInput(
                f"every report of a trial must name the same layers in the same order, got "
                f"{report.layers} after {self.layers}; measure the same model each time"
            )
        return replace(
            self,
            epochs=(*self.epochs, report.epoch),
            lr_progress=(*self.lr_progress, report.lr_progress),
            distances=(*self.distances, report.distances),
            train_loss=(*self.train_loss, report.train_loss),
            metric=(*self.metric, _known(report.metric)),
        )

    def reports(self) -> Iterator[EpochReport]:
        """Yield the reports, oldest first."""
        for at, epoch in enumerate(self.epochs):
            metric = self.metric[at]
            yield EpochReport(
                epoch=epoch,
                layers=self.layers,
                distances=self.distances[at],
                lr_progress=self.lr_progress[at],
                train_loss=self.train_loss[at],
                metric=None if math.isnan(metric) else metric,
            )

    @property
    def progress(self) -> float:
        """The share of the epochs done, in [0, 1]; 0.0 before the first report."""
        return self.epochs[-1] / self.max_epochs if self.epochs else 0.0

    def __len__(self) -> int:
        return len(self.epochs)

    def _check_lengths(self) -> None:
        for column in ("lr_progress", "distances", "train_loss", "metric"):
            length = len(getattr(self, column))
            if length != len(self):
                raise InvalidInput(
                    f"{column} must have one entry for each of {len(self)} epochs, got {length}; "
                    "use NaN for what is unknown"
                )
        for row in self.distances:
            if len(row) != len(self.layers):
                raise InvalidInput(
                    f"distances must have one entry for each of {len(self.layers)} layers, "
                    f"got {len(row)}; use NaN for what is unknown"
                )

    def _check_order(self) -> None:
        before = 0.0
        for epoch in self.epochs:
            # Written so that a NaN breaks the rule too.
            if not before < epoch <= self.max_epochs:
                raise InvalidInput(
                    f"epochs must strictly increase within (0, {self.max_epochs}], "
                    f"got {epoch} after {before}; report each epoch once, counted from 1"
                )
            before = epoch
        spent = 0.0
        for share in self.lr_progress:
            if share < spent:
                raise InvalidInput(
                    f"lr_progress must never fall, got {share} after {spent}; "
                    "report the learning rate summed over all steps so far, over the run's total"
                )
            spent = spent if math.isnan(share) else share


def _known(metric: float | None) -> float:
    return math.nan if metric is None else metric


def _within(value: float, name: str, top: float) -> float:
    """Return `value` clipped to [0, top]; NaN stays NaN.

    Raises:
        InvalidInput: the value is outside the range by more than rounding error.
    """
    value = float(value)
    if math.isnan(value):
        return value
    if not -_ROUNDING <= value <= top + _ROUNDING:
        raise InvalidInput(
            f"{name} must be within 0 and {top:g}, got {value}; use NaN where it is unknown"
        )
    return min(max(value, 0.0), top)
