"""Charts of a study, one a file: for the page, for notebooks, and as pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tuner.report.charts import cost, importance, layers, metric, rotation, slices, trial
from tuner.report.charts.drawn import AnyChart, Drawn
from tuner.study.result import StudyResult

# In the order in which the page shows them.
KINDS: dict[str, Callable[[StudyResult], Drawn | None]] = {
    "rotation": rotation.drawn,
    "metric": metric.drawn,
    "cost": cost.drawn,
    "importance": importance.drawn,
    "slices": slices.drawn,
    "layers": layers.drawn,
}

# What the page's navigation calls them.
LABELS = {
    "rotation": "Curves",
    "metric": "Rotation and metric",
    "cost": "Cost",
    "importance": "Parameters",
    "slices": "Slices",
    "layers": "Layers",
}


def all_drawn(result: StudyResult) -> dict[str, Drawn]:
    """Return every chart that the study has something to show in, by kind."""
    return {kind: shown for kind, draw in KINDS.items() if (shown := draw(result)) is not None}


def trial_charts(result: StudyResult) -> dict[str, Any]:
    """Return the templates of the charts of one trial."""
    return trial.templates(result)


__all__ = ["KINDS", "LABELS", "AnyChart", "Drawn", "all_drawn", "trial_charts"]
