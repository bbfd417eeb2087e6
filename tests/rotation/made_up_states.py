"""Made-up trials and the states they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tuner.rotation import HalvingState, PruningConfig, RotationCurve

LAYERS = ("stem", "hidden", "head")


def config_of(**given_: object) -> PruningConfig:
    return PruningConfig(
        **{"warmup_epochs": 0.25, "early_keep": 0.5, "keep": 0.25, "audit": 0} | given_
    )


def curve_of(
    epochs: Sequence[float],
    *,
    metric: float | Sequence[float] = 0.5,
    loss: float | Sequence[float] = 1.0,
    turned: float | Sequence[float] = 0.1,
    max_epochs: int = 20,
    lr_progress: Sequence[float] | None = None,
) -> RotationCurve:
    """Return a curve with reports at these epochs, and a metric at each whole one.

    Its learning rate is constant unless `lr_progress` says otherwise.
    """

    def column(values: float | Sequence[float]) -> tuple[float, ...]:
        return (values,) * len(epochs) if isinstance(values, float) else tuple(values)

    whole = [abs(epoch - round(epoch)) < 1e-9 for epoch in epochs]
    return RotationCurve(
        LAYERS,
        max_epochs,
        epochs=tuple(epochs),
        lr_progress=tuple(
            lr_progress or [min(epoch / max_epochs, 1.0) for epoch in epochs],
        ),
        distances=tuple((distance,) * len(LAYERS) for distance in column(turned)),
        train_loss=column(loss),
        metric=tuple(
            value if is_whole else math.nan
            for value, is_whole in zip(column(metric), whole, strict=True)
        ),
    )


def up_to(curve: RotationCurve, reports: int) -> RotationCurve:
    """Return the curve as it was after so many reports."""
    columns = ("epochs", "lr_progress", "distances", "train_loss", "metric")
    return dataclasses.replace(curve, **{name: getattr(curve, name)[:reports] for name in columns})


def state_of(curves: dict[int, RotationCurve], **given_: object) -> HalvingState:
    return HalvingState(config_of(**given_), 20).with_curves(curves)


def by_metric(*metrics: float, epochs: Sequence[float] = (1.0,), **given_: object) -> HalvingState:
    """Return a state of trials with these metrics, numbered from 0, alike in all else."""
    curves = {number: curve_of(epochs, metric=metric) for number, metric in enumerate(metrics)}
    return state_of(curves, **given_)


def descending(count: int) -> list[float]:
    """Metrics of trials of which number 0 is the best."""
    return [1 - number / count for number in range(count)]


def at(state: HalvingState, epoch: float) -> dict[int, tuple[float, ...]]:
    """Return the features of every trial at a rung, by number."""
    (rung,) = (rung for rung in state.rungs if rung.epoch == epoch)
    return dict(zip(rung.numbers.tolist(), map(tuple, rung.features.tolist()), strict=True))
