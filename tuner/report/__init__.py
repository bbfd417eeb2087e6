"""Reports of a study: tables, a page, charts, advice and the live view. Ray is never imported.

- summary.py: the headline, the ranked table, JSON and Parquet
- one_trial.py: everything about one trial
- evidence.py: what a study shows of its pruning and of rotation, and its metric's noise
- terminal.py: the live view, for the run itself and for `quarterturn watch`
- study_follower.py: StudyFollower, which polls a study while it runs
- formatting.py: numbers, durations and small curves as text
- plots.py: the charts for a notebook
- charts/: the charts themselves
- html/: the page
- advice/: what to try next, with the evidence

Begin with summary.py. The page and the charts are imported on first use, so that a report on the
terminal does not wait for Altair.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tuner.report.summary import headline, print_outcome, print_report, rows, to_json

if TYPE_CHECKING:
    from tuner.report.html import to_html, write_html
    from tuner.report.plots import (
        plot_cost,
        plot_importance,
        plot_layers,
        plot_metric,
        plot_rotation,
        plot_slices,
    )

__all__ = [
    "headline",
    "plot_cost",
    "plot_importance",
    "plot_layers",
    "plot_metric",
    "plot_rotation",
    "plot_slices",
    "print_outcome",
    "print_report",
    "rows",
    "to_html",
    "to_json",
    "write_html",
]


def __getattr__(name: str) -> Any:
    if name in ("to_html", "write_html"):
        return getattr(import_module("tuner.report.html"), name)
    if name in __all__:
        return getattr(import_module("tuner.report.plots"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
