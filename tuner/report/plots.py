"""The report's charts for a notebook: each takes a study and returns an Altair chart."""

from __future__ import annotations

from tuner.report.charts import AnyChart
from tuner.report.charts.export import chart_of
from tuner.study.result import StudyResult


def plot_rotation(result: StudyResult) -> AnyChart:
    """Return the rotation curves by layer, with the forecasts of pruned trials.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "rotation").titled()


def plot_metric(result: StudyResult) -> AnyChart:
    """Return the mean rotation of the hidden layers against the metric.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "metric").titled()


def plot_cost(result: StudyResult) -> AnyChart:
    """Return the best metric so far against the epochs trained.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "cost").titled()


def plot_importance(result: StudyResult) -> AnyChart:
    """Return the importance of each parameter for the metric.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "importance").titled()


def plot_slices(result: StudyResult) -> AnyChart:
    """Return the metric against each of the most important parameters.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "slices").titled()


def plot_layers(result: StudyResult) -> AnyChart:
    """Return a map that shows whether each layer of each trial turned enough.

    Raises:
        InvalidInput: the study has no data for the chart.
    """
    return chart_of(result, "layers").titled()
