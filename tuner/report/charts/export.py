"""A study's charts by name, and as .png and .svg files."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import InvalidInput, unknown_name
from tuner.files import check_picture
from tuner.report.charts import KINDS, ChartSpec
from tuner.study.result import StudyResult
from tuner.vega import write_picture


def chart_of(result: StudyResult, kind: str) -> ChartSpec:
    """Return a chart of the study.

    Args:
        result: the study.
        kind: a key of `charts.KINDS`.

    Raises:
        InvalidInput: the kind is unknown, or the study has no data for the chart.
    """
    if kind not in KINDS:
        raise unknown_name("kind of plot", kind, list(KINDS))
    shown = KINDS[kind](result)
    if shown is None:
        raise InvalidInput(
            f"a plot needs reports with its data, {result.name!r} has none for {kind!r} among "
            f"{len(result.trials)} trials; run more trials"
        )
    return shown


def write_plot(result: StudyResult, kind: str, path: Path) -> None:
    """Write a chart with its title to a .png or .svg file; an existing file is replaced.

    Raises:
        InvalidInput: the file has another suffix or cannot be written, or the study has no data
            for the chart.
    """
    check_picture(path)
    write_picture(chart_of(result, kind).titled(), path)
