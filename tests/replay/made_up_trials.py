"""Recorded trials made up for the tests."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from tuner.replay.recording import RecordedTrial
from tuner.rotation import RotationCurve

# Wilcoxon's test takes up to 2^13 permutations wherever two differences are equal.
LEVELS = {"wilcoxon": 2**20}


def recorded(
    number: int,
    metrics: Sequence[float],
    *,
    losses: Sequence[float] | None = None,
    epochs: Sequence[float] | None = None,
    test_accuracy: float = math.nan,
) -> RecordedTrial:
    """A trial with these metrics, one for each report; without `epochs`, one for each epoch."""
    epochs = tuple(map(float, epochs or range(1, len(metrics) + 1)))
    curve = RotationCurve(
        layers=("w",),
        max_epochs=int(epochs[-1]),
        epochs=epochs,
        lr_progress=tuple(epoch / epochs[-1] for epoch in epochs),
        distances=tuple((0.1,) for _ in epochs),
        train_loss=tuple(losses or [math.nan] * len(epochs)),
        metric=tuple(metrics),
    )
    return RecordedTrial(number, curve, test_accuracy, {"lr": 0.1})


def random_trials(
    seed: int,
    count: int,
    max_epochs: int,
    *,
    reports_per_epoch: int = 1,
    nan: float = 0.0,
    levels: int = 16,
) -> list[RecordedTrial]:
    """Trials whose metrics are at so many levels, few enough for ties, or NaN at times.

    With a power of two the levels are exact, and so are their medians.
    """
    draw = random.Random(seed)
    epochs = [report / reports_per_epoch for report in range(1, max_epochs * reports_per_epoch + 1)]

    def metric(epoch: float) -> float:
        if not epoch.is_integer() or draw.random() < nan:
            return math.nan
        return draw.randrange(levels) / levels

    numbers = draw.sample(range(100), count)
    return [
        recorded(
            number,
            [metric(epoch) for epoch in epochs],
            losses=[draw.choice((draw.random(), math.inf, math.nan)) for _ in epochs],
            epochs=epochs,
        )
        for number in numbers
    ]
