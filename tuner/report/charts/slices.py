"""Each parameter against the metric, one small chart for each that matters most."""

from __future__ import annotations

from typing import Any

import altair as alt

from tuner.report.charts.drawn import AnyChart, Drawn, label, number_of, state_colour, tip, values
from tuner.report.charts.importance import importances
from tuner.report.charts.ranges import is_drawn_by_log, is_number, metric_scale, with_value
from tuner.report.charts.spread import spread
from tuner.study.result import StudyResult, TrialResult

_CHARTS, _MOST, _UPRIGHT = 6, 600, 3
# So few different numbers are shown as choices.
_FEW = 5


def drawn(result: StudyResult) -> Drawn | None:
    """Return the slices; None where no parameter varies."""
    known = with_value(result)
    picked = [known[i] for i in spread(len(known), _MOST)]
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
    return Drawn(
        chart,
        f"The best trial has {where}" if where else f"{result.metric} by parameter",
        f"{result.metric} of each trial at its last report, by the parameters that matter most or "
        f"vary; blue are complete, orange pruned.{some}{outliers}",
    )


def _names(result: StudyResult, picked: list[TrialResult]) -> list[str]:
    """Return the parameters that vary, those that matter most first."""
    seen: dict[str, set[str]] = {}
    for trial in picked:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(repr(value))
    vary = [name for name, held in seen.items() if len(held) > 1]
    ranked = [name for name in importances(result) if name in vary]
    return [*ranked, *(name for name in vary if name not in ranked)][:_CHARTS]


def _row(trial: TrialResult, names: list[str]) -> dict[str, Any]:
    """The keys of parameters are ours, whatever they are called."""
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
