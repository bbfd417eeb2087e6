"""How much each parameter matters to the metric, by Optuna's own evaluator."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    json_to_distribution,
)
from optuna.trial import create_trial

from tuner.report.charts.drawn import BLUE, WIDTH, AnyChart, Drawn, tip, values
from tuner.report.charts.ranges import is_number, is_wide, with_value
from tuner.report.charts.spread import spread
from tuner.study.result import StudyResult, TrialResult

# Optuna takes seconds beyond.
MOST_TRIALS = 1000
_ENOUGH = 8
_PARAMETERS = 15


def drawn(result: StudyResult) -> Drawn | None:
    """Return the bars; None where there are too few complete trials, or no parameter varies."""
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
    few = " With so few trials it is a hint, no more." if taken < 30 else ""
    return Drawn(
        chart,
        f"{names[0]} matters most to {result.metric} ({rows[0]['share']:.0%})",
        f"Importance by PED-ANOVA, Optuna's own evaluator, over {whose}: what sets the best tenth "
        f"apart.{fewer}{few}",
    )


def importances(result: StudyResult) -> dict[str, float]:
    """Return each parameter's share of the importance, largest first; empty where not known."""
    complete = [trial for trial in with_value(result) if trial.state == "complete"]
    picked = [complete[i] for i in spread(len(complete), MOST_TRIALS)]
    space = space_of(result, picked)
    if len(picked) < _ENOUGH or not space or len({trial.value for trial in picked}) < 2:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if result.mode == "max" else "minimize")
        study.add_trials([_frozen(trial, space) for trial in picked])
        with warnings.catch_warnings():
            # It says that the evaluator is new, and where a parameter says nothing.
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return found if any(share > 0 for share in found.values()) else {}


def space_of(result: StudyResult, trials: Sequence[TrialResult]) -> dict[str, BaseDistribution]:
    """Return what each parameter that varies was drawn from: as the study says, or as it looks."""
    said = _said(result.space)
    seen: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            seen.setdefault(name, []).append(value)
    return {
        name: said.get(name) or _as_it_looks(held)
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
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False


def _said(space: str) -> dict[str, BaseDistribution]:
    """A study made elsewhere has no space, or means something else by the attribute's name."""
    try:
        return {name: json_to_distribution(text) for name, text in json.loads(space).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _as_it_looks(held: list[Any]) -> BaseDistribution:
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
