"""The best metric so far against the epochs trained for it, with and without pruning."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from tuner.report.charts.drawn import (
    BLUE,
    GREY,
    HEIGHT,
    WIDTH,
    AnyChart,
    Drawn,
    number_of,
    tip,
    values,
)
from tuner.report.charts.ranges import metric_scale
from tuner.study.result import StudyResult

_AS_RUN, _WHOLE = "as run", "without pruning"


def drawn(result: StudyResult) -> Drawn | None:
    """Return both lines; None where no trial is complete."""
    pruned = any(trial.state == "pruned" for trial in result.trials)
    rows = _steps(result, _AS_RUN)
    if not rows:
        return None
    whole = _steps(result, _WHOLE) if pruned else []
    best_after = next(row for row in rows if row["value"] == rows[-1]["value"])["epochs"]
    scale, outliers = metric_scale([row["value"] for row in rows])
    kinds = [_AS_RUN, _WHOLE] if pruned else [_AS_RUN]
    chart: AnyChart = (
        alt.Chart(values([*rows, *whole]))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            alt.X(
                **number_of("epochs", "epochs trained, all trials together", zero=True),
                axis=alt.Axis(tickCount=8),
            ),
            alt.Y(**number_of("value", f"best {result.metric} so far", **scale)),
            alt.Color(
                field="kind",
                type="nominal",
                title=None,
                scale=alt.Scale(domain=kinds, range=[BLUE, GREY][: len(kinds)]),
                legend=alt.Legend(orient="top", labelLimit=300) if pruned else None,
            ),
            alt.StrokeDash(
                field="kind",
                type="nominal",
                title=None,
                scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 3]][: len(kinds)]),
                legend=alt.Legend(orient="top", labelLimit=300) if pruned else None,
            ),
            tooltip=[
                tip("trial", "trial"),
                tip("epochs", "after epochs", "quantitative", ",.0f"),
                tip("value", result.metric, "quantitative"),
            ],
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    title = f"The best {result.metric} was reached after {best_after:,.0f} epochs"
    if pruned:
        later = next(row for row in whole if row["value"] == whole[-1]["value"])["epochs"]
        title += f"; without pruning after {later:,.0f}"
    caption = (
        f"Best {result.metric} of a complete trial so far, by the epochs that all trials up to it "
        f"took, in the order of their suggestion.{outliers}"
    )
    if pruned:
        caption += (
            " The dashed line counts every trial as trained to its end; what the pruned ones would "
            "have reached there is not known."
        )
    return Drawn(chart, title, caption)


def _steps(result: StudyResult, kind: str) -> list[dict[str, Any]]:
    """Return where the best so far improved, and where the trials end."""
    better = max if result.mode == "max" else min
    spent, best, leader = 0.0, math.nan, -1
    rows: list[dict[str, Any]] = []
    for trial in sorted(result.trials, key=lambda trial: trial.number):
        ended = trial.state in ("complete", "pruned")
        spent += result.max_epochs if kind == _WHOLE and ended else trial.epochs
        if trial.state != "complete" or not math.isfinite(trial.value):
            continue
        if math.isnan(best) or (better(best, trial.value) == trial.value != best):
            best, leader = trial.value, trial.number
            rows.append({"epochs": spent, "value": best, "trial": leader, "kind": kind})
    if rows:
        rows.append({"epochs": spent, "value": best, "trial": leader, "kind": kind})
    return [{**row, "value": float(f"{row['value']:.6g}")} for row in rows]
