"""Studies whose trials show one thing clearly, for the tests of advice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, distribution_to_json

from tests.study.example_studies import study_result
from tuner.report.advice import Advice
from tuner.rotation import RotationCurve
from tuner.study.result import StudyResult, TrialResult

EPOCHS = 10
LR = FloatDistribution(1e-3, 1.0, log=True)
LAYERS = ("stem.weight", "hidden1.weight", "hidden2.weight", "hidden3.weight", "head.weight")
Turn = Callable[[float], Sequence[float]]


def steady(*final: float) -> Turn:
    """Return the course of layers that end at these distances, with s in proportion to time."""
    ends = final * len(LAYERS) if len(final) == 1 else final
    return lambda share: [1 - (1 - min(end, 0.9999)) ** share for end in ends]


HALF = steady(0.5)


def trial(
    number: int,
    params: dict[str, Any],
    value: float,
    turn: Turn = HALF,
    *,
    state: str = "complete",
    losses: Sequence[float] = (),
    layers: Sequence[str] = LAYERS,
) -> TrialResult:
    """Return a trial of 10 epochs whose layers turn so, and whose metric climbs to its value."""
    curve = RotationCurve(layers=tuple(layers), max_epochs=EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        share = epoch / EPOCHS
        curve = curve.append(
            epoch,
            dict(zip(layers, turn(share), strict=True)) if layers else {},
            lr_progress=share,
            train_loss=losses[epoch - 1] if losses else 2.0 - share,
            metric=value * share,
        )
    return TrialResult(number, state, value, params, curve, EPOCHS, 1.0, "", None)


def study(
    trials: Sequence[TrialResult], space: dict[str, BaseDistribution], mode: str = "max"
) -> StudyResult:
    space_json = json.dumps({name: distribution_to_json(spread) for name, spread in space.items()})
    return study_result(*trials, mode=mode, max_epochs=EPOCHS, space=space_json)


def rates(count: int, low: float, high: float) -> list[float]:
    """Return rates from low to high, evenly in logs."""
    step = math.log(high / low) / (count - 1)
    return [low * math.exp(step * at) for at in range(count)]


def starting(found: list[Advice], title: str) -> list[Advice]:
    """Return the advice with such a title."""
    return [piece for piece in found if piece.title.startswith(title)]
