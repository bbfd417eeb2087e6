"""How far the hidden layers turned against the metric, a point a trial."""

from __future__ import annotations

import math

import altair as alt
import numpy as np
import pandas as pd

from tuner.report.charts.drawn import (
    HEIGHT,
    WIDTH,
    AnyChart,
    Drawn,
    number_of,
    state_colour,
    state_shape,
    tip,
    values,
)
from tuner.report.charts.ranges import metric_scale, with_value
from tuner.report.charts.spread import spread
from tuner.rotation import RotationTarget
from tuner.study.result import StudyResult, TrialResult

_MOST, _BEST = 2000, 500
_ENOUGH = 8  # fewer trials show nothing by ranks that is not nearly perfect


def drawn(result: StudyResult) -> Drawn | None:
    """Return the scatter; None where no trial has both."""
    known = [(t, far) for t in with_value(result) if math.isfinite(far := hidden(t))]
    if not known:
        return None
    picked = known[:_BEST] + [known[_BEST + i] for i in spread(len(known) - _BEST, _MOST - _BEST)]
    some = (
        "" if len(picked) == len(known) else f" Of {len(known):,} trials {len(picked):,} are drawn."
    )
    scale, outliers = metric_scale([trial.value for trial, _ in picked])
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "turned": round(far, 4),
            "value": float(f"{trial.value:.6g}"),
        }
        for trial, far in reversed(picked)  # the best on top
    ]
    chart: AnyChart = (
        alt.Chart(values(rows))
        .mark_point(filled=True, size=44, opacity=0.75)
        .encode(
            alt.X(
                **number_of("turned", "mean cosine distance of the hidden layers"),
                axis=alt.Axis(tickCount=8),
            ),
            alt.Y(**number_of("value", result.metric, **scale)),
            state_colour(legend=alt.Legend(orient="top")),
            state_shape(),
            tooltip=[
                tip("trial", "trial"),
                tip("state", "state"),
                tip("turned", "hidden layers", "quantitative", ".3f"),
                tip("value", result.metric, "quantitative"),
            ],
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    caption = (
        f"Each trial at its last report: how far its hidden layers had turned, and "
        f"{result.metric}. Trials pruned early had less time for both.{some}{outliers}"
    )
    return Drawn(chart, _finding(result, known), caption)


def hidden(trial: TrialResult) -> float:
    """Return the mean distance of a trial's hidden layers at its last report; NaN if unknown."""
    curve = trial.curve
    if not len(curve) or not curve.layers:
        return math.nan
    known = [
        distance
        for i in RotationTarget().hidden(curve.layers)
        if math.isfinite(distance := curve.distances[-1][i])
    ]
    return math.fsum(known) / len(known) if known else math.nan


def _finding(result: StudyResult, known: list[tuple[TrialResult, float]]) -> str:
    complete = [(trial, far) for trial, far in known if trial.state == "complete"]
    if len(complete) < _ENOUGH:
        return f"Rotation and {result.metric}: too few complete trials to tell"
    sign = 1 if result.mode == "max" else -1
    turned = pd.Series([far for _, far in complete]).rank()
    score = pd.Series([sign * trial.value for trial, _ in complete]).rank()
    if turned.nunique() < 2 or score.nunique() < 2:
        return f"Rotation and {result.metric}: no difference among the complete trials"
    rho = float(np.corrcoef(turned, score)[0, 1])
    # 95 % of rank correlations of unrelated values are within this.
    if abs(rho) < 1.96 / math.sqrt(len(complete) - 1):
        how = "no clear relation"
    else:
        how = "those that turned further did " + ("better" if rho > 0 else "worse")
    return f"Among {len(complete):,} complete trials {how} (rank correlation {rho:.2f})"
