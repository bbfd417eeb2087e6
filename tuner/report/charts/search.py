"""Charts of the search: parameter importance and slices, metric against rotation, and cost."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    json_to_distribution,
)
from optuna.trial import create_trial

from tuner.report.charts.base import (
    HEIGHT,
    WIDTH,
    ChartSpec,
    is_drawn_by_log,
    is_number,
    is_wide,
    metric_scale,
    spread,
    state_colour,
    state_shape,
    with_value,
)
from tuner.rotation import RotationTarget
from tuner.storage.optuna_internals import is_in_range
from tuner.study.result import StudyResult, TrialResult
from tuner.vega import BLUE, GREY, AnyChart, label, number_of, tip, values

# Optuna's evaluator takes seconds for more trials.
MOST_TRIALS = 1000
_ENOUGH_TRIALS = 8
_PARAMETERS = 15


def draw_importance(result: StudyResult) -> ChartSpec | None:
    """Return the importance of parameters as bars.

    None with fewer than 8 complete trials, or if no parameter varies.
    """
    shares = importances(result)
    if not shares:
        return None
    complete = sum(trial.state == "complete" for trial in with_value(result))
    shown = list(shares.items())[:_PARAMETERS]
    names = [name for name, _ in shown]
    rows = [{"name": name, "share": round(share, 4)} for name, share in shown]
    base = alt.Chart(values(rows)).encode(
        alt.Y(
            field="name",
            type="nominal",
            sort=names,
            title=None,
            axis=alt.Axis(labelLimit=200, grid=False),
        ),
        alt.X(
            field="share",
            type="quantitative",
            title="share of the importance of all parameters",
            axis=alt.Axis(format="%", grid=True, tickCount=5),
            scale=alt.Scale(domain=[0, max(0.1, *(1.12 * share for _, share in shown))]),
        ),
        tooltip=[tip("name", "parameter"), tip("share", "share", "quantitative", ".1%")],
    )
    chart: AnyChart = alt.layer(
        base.mark_bar(color=BLUE, height=alt.RelativeBandSize(band=0.62)),
        base.mark_text(align="left", dx=5).encode(
            text=alt.Text(field="share", type="quantitative", format=".0%")
        ),
    ).properties(width=WIDTH, height=28 * len(rows) + 10)
    taken = min(complete, MOST_TRIALS)
    whose = f"{taken:,} complete trials" + (
        f", evenly picked by rank from {complete:,}" if taken < complete else ""
    )
    fewer = "" if len(shown) == len(shares) else f" The {len(shown)} largest of {len(shares)}."
    few = " With so few trials it is only a hint." if taken < 30 else ""
    return ChartSpec(
        chart,
        f"Most important parameter for {result.metric}: {names[0]} ({rows[0]['share']:.0%})",
        f"Importance by PED-ANOVA, Optuna's own evaluator, over {whose}: the difference of the "
        f"best tenth from the other trials.{fewer}{few}",
    )


def importances(result: StudyResult) -> dict[str, float]:
    """Return each parameter's share of the importance, largest first; empty if unknown."""
    complete = [trial for trial in with_value(result) if trial.state == "complete"]
    picked = [complete[i] for i in spread(len(complete), MOST_TRIALS)]
    space = space_of(result, picked)
    if len(picked) < _ENOUGH_TRIALS or not space or len({trial.value for trial in picked}) < 2:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if result.mode == "max" else "minimize")
        study.add_trials([_frozen(trial, space) for trial in picked])
        with warnings.catch_warnings():
            # Optuna warns that the evaluator is experimental and of parameters without effect.
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return found if any(share > 0 for share in found.values()) else {}


def space_of(result: StudyResult, trials: Sequence[TrialResult]) -> dict[str, BaseDistribution]:
    """Return the distribution of each parameter that varies.

    It is the distribution in the study's space. Without a space it is fitted to the values.
    """
    stored = _stored_space(result.space)
    seen: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            seen.setdefault(name, []).append(value)
    return {
        name: stored.get(name) or _fitting_distribution(held)
        for name, held in seen.items()
        if len({repr(value) for value in held}) > 1
    }


def _frozen(trial: TrialResult, space: Mapping[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    held = {
        name: value
        for name, value in trial.params.items()
        if name in space and _holds(space[name], value)
    }
    return create_trial(
        value=trial.value, params=held, distributions={name: space[name] for name in held}
    )


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return is_in_range(distribution, value)
    except (ValueError, TypeError):
        return False


def _stored_space(space: str) -> dict[str, BaseDistribution]:
    """Return the distributions of a space; empty where another program wrote the study."""
    try:
        return {name: json_to_distribution(text) for name, text in json.loads(space).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _fitting_distribution(held: list[Any]) -> BaseDistribution:
    if all(is_number(value) for value in held):
        low, high = float(min(held)), float(max(held))
        return FloatDistribution(low, high, log=is_wide(held))
    choices = {repr(value): value for value in held}
    return CategoricalDistribution(
        [
            v if v is None or isinstance(v, bool | int | float | str) else str(v)
            for v in choices.values()
        ]
    )


_CHARTS, _MOST_PER_SLICE, _UPRIGHT = 6, 600, 3
# A parameter with at most so many different numbers is shown as categories.
_FEW = 5


def draw_slices(result: StudyResult) -> ChartSpec | None:
    """Return the metric by each parameter; None if no parameter varies."""
    known = with_value(result)
    picked = [known[i] for i in spread(len(known), _MOST_PER_SLICE)]
    names = _names(result, picked)
    if not names:
        return None
    rows = [_row(trial, names) for trial in reversed(picked)]
    scale, outliers = metric_scale([trial.value for trial in picked])
    parts = [_slice(rows, f"p{i}", name, result, scale) for i, name in enumerate(names)]
    chart: AnyChart = alt.concat(*parts, columns=3, data=values(rows))
    some = (
        "" if len(picked) == len(known) else f" Of {len(known):,} trials {len(picked):,} are drawn."
    )
    best = known[0]
    where = ", ".join(
        f"{name} {_short(best.params[name])}" for name in names[:2] if name in best.params
    )
    return ChartSpec(
        chart,
        f"The best trial has {where}" if where else f"{result.metric} by parameter",
        f"{result.metric} of each trial at its last report, by the most important "
        f"parameters; complete trials are blue, pruned trials are orange.{some}{outliers}",
    )


def _names(result: StudyResult, picked: list[TrialResult]) -> list[str]:
    """Return the parameters that vary, the most important first."""
    seen: dict[str, set[str]] = {}
    for trial in picked:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(repr(value))
    vary = [name for name, held in seen.items() if len(held) > 1]
    ranked = [name for name in importances(result) if name in vary]
    return [*ranked, *(name for name in vary if name not in ranked)][:_CHARTS]


def _row(trial: TrialResult, names: list[str]) -> dict[str, Any]:
    """Return a trial as a row. Parameters get short keys: a name may contain any character."""
    held = {f"p{i}": trial.params[name] for i, name in enumerate(names) if name in trial.params}
    return {
        "trial": trial.number,
        "state": trial.state,
        "value": float(f"{trial.value:.6g}"),
        **{key: v if is_number(v) else str(v) for key, v in held.items()},
    }


def _slice(
    rows: list[dict[str, Any]], key: str, name: str, result: StudyResult, scale: dict[str, Any]
) -> alt.Chart:
    held = [row[key] for row in rows if key in row]
    x: alt.X
    if all(is_number(value) for value in held) and len(set(held)) > _FEW:
        wide = is_drawn_by_log(result, name, held)
        kind = "log" if wide else "linear"
        arguments = number_of(
            key, name, type=kind, nice=not wide, zero=alt.Undefined if wide else False
        )
        x = alt.X(
            **arguments,
            axis=alt.Axis(format="~g", tickCount=4, labelOverlap="greedy", ticks=not wide),
        )
        tips = tip(key, name, "quantitative", ".4~g")
    else:
        numbers = all(is_number(value) for value in held)
        for row in rows:
            if key in row and not numbers:
                row[key] = _short(row[key])
        few = len(set(held)) <= _UPRIGHT
        labels = alt.Axis(labelAngle=0 if few else -30, labelLimit=90)
        x = alt.X(field=key, type="nominal", title=label(name), axis=labels)
        tips = tip(key, name)
    chart: alt.Chart = (
        alt.Chart()
        .transform_filter(f"isValid(datum.{key})")
        .mark_point(filled=True, size=28, opacity=0.7)
        .encode(
            x,
            alt.Y(**number_of("value", result.metric, **scale)),
            state_colour(legend=None),
            tooltip=[tip("trial", "trial"), tip("value", result.metric, "quantitative"), tips],
        )
        .properties(width=200, height=170)
    )
    return chart


def _short(value: Any) -> str:
    return f"{value:.3g}" if is_number(value) and isinstance(value, float) else str(value)


_MOST_POINTS, _BEST = 2000, 500
_ENOUGH_POINTS = 8  # with fewer trials only a nearly perfect order is significant


def draw_metric(result: StudyResult) -> ChartSpec | None:
    """Return a scatter plot of rotation and metric; None if no trial has both."""
    target = result.rotation_target
    known = [(t, far) for t in with_value(result) if math.isfinite(far := hidden(t, target))]
    if not known:
        return None
    picked = known[:_BEST] + [
        known[_BEST + i] for i in spread(len(known) - _BEST, _MOST_POINTS - _BEST)
    ]
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
        f"Rotation of the hidden layers and {result.metric} of each trial at its last report. "
        f"Trials pruned early had less time for both.{some}{outliers}"
    )
    return ChartSpec(chart, _finding(result, known), caption)


def hidden(trial: TrialResult, target: RotationTarget) -> float:
    """Return the mean distance of a trial's hidden layers at its last report; NaN if unknown.

    The target says which layers are hidden.
    """
    curve = trial.curve
    if not len(curve) or not curve.layers:
        return math.nan
    known = [
        distance
        for i in target.hidden(curve.layers)
        if math.isfinite(distance := curve.distances[-1][i])
    ]
    return math.fsum(known) / len(known) if known else math.nan


def _finding(result: StudyResult, known: list[tuple[TrialResult, float]]) -> str:
    complete = [(trial, far) for trial, far in known if trial.state == "complete"]
    if len(complete) < _ENOUGH_POINTS:
        return f"Rotation and {result.metric}: too few complete trials to tell"
    sign = 1 if result.mode == "max" else -1
    turned = pd.Series([far for _, far in complete]).rank()
    score = pd.Series([sign * trial.value for trial, _ in complete]).rank()
    if turned.nunique() < 2 or score.nunique() < 2:
        return f"Rotation and {result.metric}: no difference among the complete trials"
    rho = float(np.corrcoef(turned, score)[0, 1])
    # 95 % of the rank correlations of independent values are smaller.
    if abs(rho) < 1.96 / math.sqrt(len(complete) - 1):
        how = "no clear relation"
    else:
        how = "trials that turned further are " + ("better" if rho > 0 else "worse")
    return f"In {len(complete):,} complete trials: {how} (rank correlation {rho:.2f})"


_AS_RUN, _WHOLE = "as run", "without pruning"


def draw_cost(result: StudyResult) -> ChartSpec | None:
    """Return the best metric by epochs trained, with and without pruning.

    None if no trial is complete.
    """
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
        f"Best {result.metric} of the complete trials so far, against the epochs of all trials so "
        f"far. The trials are in the order of their suggestion.{outliers}"
    )
    if pruned:
        caption += (
            " The dashed line counts every trial as trained to its end. The final metric of the "
            "pruned trials is not known."
        )
    return ChartSpec(chart, title, caption)


def _steps(result: StudyResult, kind: str) -> list[dict[str, Any]]:
    """Return the points at which the best metric improved, and the last one."""
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
