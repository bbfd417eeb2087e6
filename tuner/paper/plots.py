"""The shapes that the plots of the findings share: panels side by side, and lines by layer."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from tuner.rotation import RotationCurve
from tuner.vega import AnyChart, number_of, values

_WIDTH, _HEIGHT = 210, 190  # pixels of a panel


def panels(
    chart: AnyChart, rows: list[dict[str, Any]], column: str, row: str | None = None
) -> AnyChart:
    """Return a chart split into panels that share their y axis.

    Args:
        chart: what each panel shows, without data.
        rows: the data of all panels.
        column: the field that names a panel's column; columns are in the order of the data.
        row: the field that names a panel's row; by default there is one row.
    """
    split: AnyChart = chart.properties(width=_WIDTH, height=_HEIGHT).facet(
        data=values(rows),
        column=alt.Column(field=column, **in_order(rows, column), title=None),
        row=alt.Row(field=row, **in_order(rows, row), title=None) if row else alt.Undefined,
        spacing=12,
    )
    resolved: AnyChart = split.resolve_scale(x="independent")
    return resolved


def in_order(rows: list[dict[str, Any]], field: str) -> dict[str, Any]:
    """Return the arguments of a nominal channel whose values keep the order of the data."""
    return {"type": "nominal", "sort": list(dict.fromkeys(row[field] for row in rows))}


def layer_rows(curve: RotationCurve, **panel: str) -> list[dict[str, Any]]:
    """Return a row for each layer and report of a run, beginning at initialisation.

    Args:
        curve: the run's curve.
        panel: the fields that identify the panel of the rows.
    """
    last = max(len(curve.layers) - 1, 1)
    return [
        {**panel, "layer": layer, "depth": layer / last, "epoch": epoch, "distance": distance}
        for layer in range(len(curve.layers))
        for epoch, distance in zip(
            (0.0, *curve.epochs), (0.0, *(row[layer] for row in curve.distances)), strict=True
        )
    ]


def layer_lines() -> alt.Chart:
    """Return a line for each layer of `layer_rows`, the first layer dark, the last one light."""
    lines: alt.Chart = (
        alt.Chart()
        .mark_line(strokeWidth=1.2)
        .encode(
            alt.X(**number_of("epoch", "epoch", zero=True)),
            alt.Y(**number_of("distance", "distance of each layer", domain=[0, 1.05])),
            alt.Color(
                field="depth",
                type="quantitative",
                scale=alt.Scale(scheme="viridis", domain=[0, 1]),
                legend=None,
            ),
            alt.Detail(field="layer", type="nominal"),
        )
    )
    return lines


def train_losses(curve: RotationCurve) -> tuple[list[float], list[float]]:
    """Return the whole epochs whose train loss is known, and these losses."""
    known = [
        (epoch, loss)
        for epoch, loss in zip(curve.epochs, curve.train_loss, strict=True)
        if float(epoch).is_integer() and math.isfinite(loss)
    ]
    return [epoch for epoch, _ in known], [loss for _, loss in known]
