"""What every chart has: the chart itself, the finding as its title, and a caption in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt

AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart | alt.VConcatChart

# Readable on light and dark ground, and apart for the colour-blind (after Okabe and Ito).
BLUE, ORANGE, GREEN, ROSE, GREY = "#2b83ba", "#d9791a", "#1b9e77", "#c2577f", "#8a919b"
STATES = {"complete": BLUE, "pruned": ORANGE, "running": GREEN, "failed": ROSE}
SHAPES = {"complete": "circle", "pruned": "cross", "running": "diamond", "failed": "triangle-up"}
WIDTH, HEIGHT = 640, 300


@dataclass(frozen=True)
class Drawn:
    """A chart to be shown.

    Attributes:
        title: the finding, in a sentence; caption: what is shown, and what of it where not all is.
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
        """Return the chart as Vega-Lite without its title, which the page shows by itself."""
        spec: dict[str, Any] = self.chart.to_dict(validate=False)
        spec.pop("config", None)  # the page has its own
        return spec


def values(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Return rows as a chart's data. Their keys are ours: a user's name is never a field's."""
    return alt.InlineData(values=rows)


def state_colour(**how: Any) -> alt.Color:
    """Return the colour that says how a trial ended."""
    scale = alt.Scale(domain=list(STATES), range=list(STATES.values()))
    return alt.Color(field="state", type="nominal", scale=scale, **{"title": None, **how})


def state_shape(**how: Any) -> alt.Shape:
    """Return the shape that says the same, for those who do not see colours apart."""
    scale = alt.Scale(domain=list(STATES), range=list(SHAPES.values()))
    return alt.Shape(field="state", type="nominal", scale=scale, **{"title": None, **how})


def number_of(field: str, title: str | None, **scale: Any) -> dict[str, Any]:
    """Return the arguments of a quantitative axis that need not begin at zero."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title and label(title),
        "scale": alt.Scale(**{"zero": False, **scale}),
    }


# Vega-Lite writes titles into its expressions, and there a backslash undoes its quoting.
_UNQUOTED = str.maketrans({"\\": "∖", '"': "″", "\n": " ", "\r": " "})


def label(name: str) -> str:
    """Return a user's name as the title of an axis or of a line of a tooltip."""
    return name.translate(_UNQUOTED)


def tip(field: str, title: str, kind: Any = "nominal", form: str | None = None) -> alt.Tooltip:
    """Return one line of what is shown when a mark is pointed at."""
    shown_as = form if form else alt.Undefined
    return alt.Tooltip(field=field, type=kind, title=label(title), format=shown_as)
