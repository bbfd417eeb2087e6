"""Reports of a study: it reads through `tuner.study`, and never imports Ray.

The page and the charts are handed on lazily: a report in a terminal does not wait for their import.
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
