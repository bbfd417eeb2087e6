"""The shared parts of all charts: colours, data, axes and tooltips for Altair, and pictures.

Altair takes half a second to import. So a module that also runs without a chart imports this module
only in the functions that draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from tuner.files import check_picture, write_whole

AnyChart = (
    alt.Chart
    | alt.LayerChart
    | alt.FacetChart
    | alt.ConcatChart
    | alt.HConcatChart
    | alt.VConcatChart
)

# Readable on light and dark backgrounds, and distinct for colour-blind readers (after Okabe and
# Ito).
BLUE, ORANGE, GREEN, ROSE, GREY = "#2b83ba", "#d9791a", "#1b9e77", "#c2577f", "#8a919b"

# Vega-Lite writes titles into its expressions, where a backslash would end its quoting.
_UNQUOTED = str.maketrans({"\\": "∖", '"': "″", "\n": " ", "\r": " "})


def values(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Return rows as a chart's data.

    Args:
        rows: one dict for each row. The keys must not be names that a user gave, because these may
            contain characters that Vega-Lite reads as a path.
    """
    return alt.InlineData(values=rows)


def label(name: str) -> str:
    """Return a user's name as a title that Vega-Lite can quote."""
    return name.translate(_UNQUOTED)


def number_of(field: str, title: str | None, **scale: Any) -> dict[str, Any]:
    """Return the arguments of a quantitative channel whose axis need not begin at zero.

    Args:
        field: the key in the rows.
        title: the title of the axis; None for an axis without a title.
        scale: arguments of `altair.Scale`.
    """
    return {
        "field": field,
        "type": "quantitative",
        "title": title and label(title),
        "scale": alt.Scale(**{"zero": False, **scale}),
    }


def tip(field: str, title: str, kind: Any = "nominal", form: str | None = None) -> alt.Tooltip:
    """Return one line of the tooltip of a mark.

    Args:
        field: the key in the rows.
        title: the line's label.
        kind: the Vega-Lite type of the field.
        form: a d3 number format. Default: the value unformatted.
    """
    shown_as = form if form else alt.Undefined
    return alt.Tooltip(field=field, type=kind, title=label(title), format=shown_as)


def write_picture(chart: AnyChart, path: Path) -> None:
    """Write a chart to a .png or .svg file; an existing file is replaced.

    Args:
        chart: the chart.
        path: the file.

    Raises:
        InvalidInput: the file has another ending, or cannot be written.
    """
    check_picture(path)
    write_whole(path, lambda file: chart.save(str(file), scale_factor=2), "the plot")
