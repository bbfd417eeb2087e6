"""The charts of one trial, as templates that the page fills with the trial it shows."""

from __future__ import annotations

from typing import Any

import altair as alt

from tuner.report.charts.drawn import BLUE, GREY, ORANGE, AnyChart, number_of, tip
from tuner.study.result import StudyResult


def templates(result: StudyResult) -> dict[str, Any]:
    """Return Vega-Lite charts of rotation and of the metric; their data sets are still empty."""
    return {
        "rotation": _rotation(result.max_epochs).to_dict(validate=False),
        "metric": _line("value", result.metric, BLUE, result.max_epochs).to_dict(validate=False),
        "loss": _line("value", "train loss", ORANGE, result.max_epochs).to_dict(validate=False),
    }


def _epochs(max_epochs: int, field: str = "epoch") -> alt.X:
    return alt.X(**number_of(field, "epoch", domain=[0, max_epochs], nice=False))


def _rotation(max_epochs: int) -> AnyChart:
    colour = alt.Color(
        field="layer",
        type="nominal",
        title=None,
        sort=None,
        legend=alt.Legend(orient="bottom", columns=2, labelLimit=150, symbolLimit=60),
    )
    x = _epochs(max_epochs)
    y = alt.Y(**number_of("distance", "cosine distance", zero=True))
    seen = alt.Chart(alt.NamedData(name="seen"))
    ahead = alt.Chart(alt.NamedData(name="ahead"))
    quarter = (
        alt.Chart(alt.NamedData(name="quarter"))
        .mark_rule(strokeDash=[2, 3], color=GREY)
        .encode(alt.Y(field="distance", type="quantitative"))
    )
    tips = [
        tip("layer", "layer"),
        tip("epoch", "epoch", "quantitative"),
        tip("distance", "distance", "quantitative", ".3f"),
    ]
    ends = [
        tip("layer", "layer"),
        tip("low", "forecast, low", "quantitative", ".2f"),
        tip("mid", "forecast, middle", "quantitative", ".2f"),
        tip("high", "forecast, high", "quantitative", ".2f"),
    ]
    chart: AnyChart = alt.layer(
        quarter,
        seen.mark_line(point=alt.OverlayMarkDef(size=14)).encode(x, y, colour, tooltip=tips),
        ahead.mark_rule(strokeDash=[3, 3]).encode(
            x, y, alt.X2(field="end"), alt.Y2(field="mid"), colour, tooltip=ends
        ),
        ahead.mark_rule(strokeWidth=4, opacity=0.5, xOffset=-2).encode(
            _epochs(max_epochs, "end"),
            alt.Y(field="low", type="quantitative"),
            alt.Y2(field="high"),
            colour,
            tooltip=ends,
        ),
    ).properties(height=220)
    return chart


def _line(field: str, title: str, colour: str, max_epochs: int) -> AnyChart:
    chart: alt.Chart = (
        alt.Chart(alt.NamedData(name="seen"))
        .mark_line(color=colour, point=alt.OverlayMarkDef(color=colour, size=14))
        .encode(
            _epochs(max_epochs),
            alt.Y(**number_of(field, title)),
            tooltip=[tip("epoch", "epoch", "quantitative"), tip(field, title, "quantitative")],
        )
        .properties(height=150)
    )
    return chart
