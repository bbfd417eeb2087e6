"""Runs that were never made, for the tests of what findings make of them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tuner.rotation import RotationCurve
from tuner.study.result import TrialResult

LAYERS = ("first", "middle.0", "middle.1", "head")


def trial(
    turned: float = 0.5,
    *,
    test: float = 0.8,
    losses: tuple[float, ...] = (1.0, 0.5),
    layers: tuple[str, ...] = LAYERS,
    **params: Any,
) -> TrialResult:
    """Return a complete trial whose hidden layers end at `turned`, the first at half of it."""
    curve = RotationCurve(layers=layers, max_epochs=len(losses))
    for epoch, loss in enumerate(losses, start=1):
        share = epoch / len(losses)
        distances = dict.fromkeys(layers, turned * share) | {layers[0]: turned * share / 2}
        curve = curve.append(epoch, distances, metric=test, train_loss=loss)
    return TrialResult(
        number=0,
        state="complete",
        value=test - 0.01,
        params=params,
        curve=curve,
        epochs=len(losses),
        seconds=1.0,
        reason="",
        checkpoint=None,
        test={"test_accuracy": test},
    )


def runs(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return a table as `table_of` makes it; `val` and `first` follow from the rest."""
    return pd.DataFrame(
        [
            {"val": row["test"], "fits": True, "first": row.get("turned", 0.5) / 2, **row}
            for row in rows
        ]
    )
