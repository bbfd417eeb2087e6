"""Charts as pictures, rendered by the same Vega-Lite that draws them on the page."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import InvalidInput, unknown_name
from tuner.report.charts import KINDS, ChartSpec
from tuner.report.files import check_file, write_whole
from tuner.study.result import StudyResult

_WHAT = "the plot"


def chart_of(result: StudyResult, kind: str) -> ChartSpec:
    """Return a chart of the study.

    Raises:
        InvalidInput: there is no such kind, or the study has nothing to show in it.
    """
    if kind not in KINDS:
        raise unknown_name("kind of plot", kind, list(KINDS))
    shown = KINDS[kind](result)
    if shown is None:
        raise InvalidInput(
            f"a study must have reported what a plot shows, {result.name!r} has nothing for "
            f"{kind!r} among {len(result.trials)} trials; run more trials"
        )
    return shown


def write_plot(result: StudyResult, kind: str, path: Path) -> None:
    """Draw a chart, with its finding as title, to a .png or .svg file; one there is replaced.

    Raises:
        InvalidInput: it has another suffix, cannot be written, or has nothing to show.
    """
    check_file(path, (".png", ".svg"), _WHAT)
    chart = chart_of(result, kind).titled()
    write_whole(path, lambda file: chart.save(str(file), scale_factor=2), _WHAT)
