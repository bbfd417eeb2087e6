"""The report's charts for a notebook: each takes a study and returns an Altair chart."""

from __future__ import annotations

from tuner.report.charts import AnyChart
from tuner.report.charts.export import chart_of
from tuner.study.result import StudyResult


def plot_rotation(result: StudyResult) -> AnyChart:
    """Return the rotation curves by layer, with the forecasts of pruned trials.

    Raises:
        InvalidInput: as of all charts here, the study has nothing to show in it.
    """
    return chart_of(result, "rotation").titled()


def plot_metric(result: StudyResult) -> AnyChart:
    """Return how far the hidden layers turned against the metric."""
    return chart_of(result, "metric").titled()


def plot_cost(result: StudyResult) -> AnyChart:
    """Return the best metric so far against the epochs trained."""
    return chart_of(result, "cost").titled()


def plot_importance(result: StudyResult) -> AnyChart:
    """Return how much each parameter matters to the metric."""
    return chart_of(result, "importance").titled()


def plot_slices(result: StudyResult) -> AnyChart:
    """Return the metric by each of the parameters that matter most."""
    return chart_of(result, "slices").titled()


def plot_layers(result: StudyResult) -> AnyChart:
    """Return which layers of which trials turned enough, too little or too fast."""
    return chart_of(result, "layers").titled()
