"""The charts of a study, for the page, for notebooks and as pictures, by name in `KINDS`.

- base.py: ChartSpec, and the scales and states that charts share
- rotation.py: curves by layer, the map of layers and trials, the charts of one trial
- search.py: importance and slices of parameters, metric against rotation, cost
- export.py: a chart by name, and as a .png or .svg file

Begin with base.py. Parts that the charts of other packages also use are in `tuner.vega`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tuner.report.charts.base import ChartSpec
from tuner.report.charts.rotation import draw_layers, draw_rotation, trial_templates
from tuner.report.charts.search import draw_cost, draw_importance, draw_metric, draw_slices
from tuner.study.result import StudyResult
from tuner.vega import AnyChart

# The page shows the charts in this order.
KINDS: dict[str, Callable[[StudyResult], ChartSpec | None]] = {
    "rotation": draw_rotation,
    "metric": draw_metric,
    "cost": draw_cost,
    "importance": draw_importance,
    "slices": draw_slices,
    "layers": draw_layers,
}

# The names of the charts in the navigation of the page.
LABELS = {
    "rotation": "Curves",
    "metric": "Rotation and metric",
    "cost": "Cost",
    "importance": "Parameters",
    "slices": "Slices",
    "layers": "Layers",
}


def all_charts(result: StudyResult) -> dict[str, ChartSpec]:
    """Return every chart for which the study has data, by kind."""
    return {kind: chart for kind, draw in KINDS.items() if (chart := draw(result)) is not None}


def trial_charts(result: StudyResult) -> dict[str, Any]:
    """Return the charts of one trial as Vega-Lite without data."""
    return trial_templates(result)


__all__ = ["KINDS", "LABELS", "AnyChart", "ChartSpec", "all_charts", "trial_charts"]
