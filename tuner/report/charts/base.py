"""ChartSpec, and functions that charts share: axis ranges, states, selection of points."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from tuner.study.result import StudyResult, TrialResult
from tuner.vega import BLUE, GREEN, ORANGE, ROSE, AnyChart

STATES = {"complete": BLUE, "pruned": ORANGE, "running": GREEN, "failed": ROSE}
SHAPES = {"complete": "circle", "pruned": "cross", "running": "diamond", "failed": "triangle-up"}
WIDTH, HEIGHT = 640, 300


@dataclass(frozen=True)
class ChartSpec:
    """A chart with its title and its caption.

    Attributes:
        chart: the chart without a title.
        title: the finding that the chart shows, in a sentence.
        caption: a description of the data, and of the selection if the chart does not show all.
    """

    chart: AnyChart
    title: str
    caption: str

    def titled(self) -> AnyChart:
        """Return the chart with its title, for a notebook or a picture."""
        return self.chart.properties(
            title=alt.TitleParams(self.title, anchor="start", fontSize=13, offset=10)
        )

    def page_spec(self) -> dict[str, Any]:
        """Return the chart as Vega-Lite, without the title, which the page shows as text."""
        spec: dict[str, Any] = self.chart.to_dict(validate=False)
        spec.pop("config", None)  # the page has its own
        return spec


def state_colour(**how: Any) -> alt.Color:
    """Return the colour of a trial's state."""
    scale = alt.Scale(domain=list(STATES), range=list(STATES.values()))
    return alt.Color(field="state", type="nominal", scale=scale, **{"title": None, **how})


def state_shape(**how: Any) -> alt.Shape:
    """Return the shape of a trial's state, for readers who cannot tell the colours apart."""
    scale = alt.Scale(domain=list(STATES), range=list(SHAPES.values()))
    return alt.Shape(field="state", type="nominal", scale=scale, **{"title": None, **how})


# There are outliers if the range is this many times the range of the middle 90 % of the values.
_OUTLYING = 5.0
_DECADES = 100.0


def metric_scale(values: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Return the scale of the metric's axis, and a sentence if outliers are outside the scale."""
    low, few, many, high = np.quantile(np.array(values), [0, 0.05, 0.95, 1])
    if many <= few or high - low <= _OUTLYING * (many - few):
        return {}, ""
    margin = (many - few) / 10
    domain = [float(max(low, few - margin)), float(min(high, many + margin))]
    return {"domain": domain, "clamp": True}, " Outliers are drawn at the edge."


def is_number(value: object) -> bool:
    """Return whether a value is a finite number; a bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_wide(values: Sequence[float]) -> bool:
    """Return whether positive values span two decades or more, and need a logarithmic scale."""
    return bool(values) and min(values) > 0 and max(values) >= _DECADES * min(values)


def is_drawn_by_log(result: StudyResult, name: str, values: Sequence[float]) -> bool:
    """Return whether a parameter's axis is logarithmic: as in the space, if the study has one."""
    drawn = json.loads(result.space or "{}").get(name)
    by_log = json.loads(drawn)["attributes"].get("log") if isinstance(drawn, str) else None
    if by_log is None:
        return is_wide(values)
    return bool(by_log) and min(values) > 0


def with_value(result: StudyResult) -> list[TrialResult]:
    """Return the trials with a finite metric, best first."""
    return [trial for trial in result.ranked if math.isfinite(trial.value)]


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` indices, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    if most < 2:
        return [count - 1][:most]
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
