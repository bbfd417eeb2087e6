"""Rotation curves by layer: the best trials, those pruned with their forecast, some others."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import altair as alt

from tuner.report.charts.drawn import BLUE, GREY, ORANGE, Drawn, number_of, tip, values
from tuner.report.charts.spread import spread
from tuner.rotation import RotationTarget, forecast
from tuner.study.result import StudyResult, TrialResult

_BEST, _PRUNED, _OTHERS = 3, 3, 40
_LAYERS, _REPORTS = 12, 60
_KINDS = {"among the best": BLUE, "pruned, with its forecast": ORANGE, "others": GREY}
_BEST_KIND, _PRUNED_KIND, _OTHER_KIND = _KINDS


def drawn(result: StudyResult) -> Drawn | None:
    """Return the curves; None where no trial has reported rotation."""
    turned = [t for t in result.ranked if len(t.curve) and t.curve.layers]
    if not turned:
        return None
    layers = shown_layers(turned)
    picked = _picked(turned)
    lines = [row for trial, kind in picked for row in _line(trial, kind, layers)]
    ahead = [row for trial, kind in picked if kind == _PRUNED_KIND for row in _ahead(trial, layers)]
    kinds = [kind for kind in _KINDS if any(kind == picked_as for _, picked_as in picked)]
    return Drawn(
        _chart(lines, ahead, kinds, layers, result.max_epochs),
        _finding(turned, layers),
        _caption(turned, picked, layers),
    )


def shown_layers(trials: list[TrialResult]) -> list[str]:
    """Return the layers of the most common network, up to 12 of them, in model order."""
    network, _ = Counter(trial.curve.layers for trial in trials).most_common(1)[0]
    return [network[i] for i in spread(len(network), _LAYERS)]


def _picked(turned: list[TrialResult]) -> list[tuple[TrialResult, str]]:
    best = [trial for trial in turned if trial.state == "complete"][:_BEST]
    # The forecasts of those that were cut latest matter most.
    pruned = sorted(
        (t for t in turned if t.state == "pruned"), key=lambda t: (-t.epochs, t.number)
    )[:_PRUNED]
    taken = {trial.number for trial in (*best, *pruned)}
    others = [trial for trial in turned if trial.number not in taken]
    return [
        *((others[i], _OTHER_KIND) for i in spread(len(others), _OTHERS)),
        *((trial, _PRUNED_KIND) for trial in pruned),
        *((trial, _BEST_KIND) for trial in best),
    ]


def _line(trial: TrialResult, kind: str, layers: list[str]) -> list[dict[str, Any]]:
    curve = trial.curve
    rows = [
        {"epoch": 0.0, "distance": 0.0, "layer": layer} for layer in layers if layer in curve.layers
    ]
    for i in spread(len(curve), _REPORTS):
        for layer, distance in zip(curve.layers, curve.distances[i], strict=True):
            if layer in layers and math.isfinite(distance):
                rows.append(
                    {
                        "epoch": round(curve.epochs[i], 4),
                        "distance": round(distance, 4),
                        "layer": layer,
                    }
                )
    return [{**row, "trial": trial.number, "kind": kind} for row in rows]


def _ahead(trial: TrialResult, layers: list[str]) -> list[dict[str, Any]]:
    """Return, by layer, where the verdict fell and where the trial was forecast to end."""
    curve = trial.curve
    expected = forecast(curve)
    if expected is None:
        return []
    return [
        {
            "trial": trial.number,
            "layer": layer,
            "epoch": round(curve.epochs[-1], 4),
            "end": curve.max_epochs,
            "distance": round(now, 4),
            "low": round(low, 4),
            "mid": round(mid, 4),
            "high": round(high, 4),
            "kind": _PRUNED_KIND,
        }
        for layer, now, low, mid, high in zip(
            curve.layers,
            curve.distances[-1],
            expected.low,
            expected.mid,
            expected.high,
            strict=True,
        )
        if layer in layers and math.isfinite(mid) and math.isfinite(now)
    ]


def _chart(
    lines: list[dict[str, Any]],
    ahead: list[dict[str, Any]],
    kinds: list[str],
    layers: list[str],
    max_epochs: int,
) -> alt.FacetChart:
    colour = alt.Color(
        field="kind",
        type="nominal",
        title=None,
        scale=alt.Scale(domain=kinds, range=[_KINDS[kind] for kind in kinds]),
        legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=2),
    )
    x = alt.X(**number_of("epoch", "epoch", domain=[0, max_epochs], nice=False))
    top = max([1.0, *(row["distance"] for row in lines), *(row["high"] for row in ahead)])
    y = alt.Y(**number_of("distance", "cosine distance", domain=[0, math.ceil(top * 10) / 10]))
    seen = alt.Chart().transform_filter("isValid(datum.epoch) && !isValid(datum.end)").encode(x, y)
    cut = alt.Chart().transform_filter("isValid(datum.end)")
    to_end = alt.X2(field="end")
    tips = [
        tip("trial", "trial"),
        tip("layer", "layer"),
        tip("epoch", "epoch", "quantitative"),
        tip("distance", "distance", "quantitative", ".3f"),
    ]
    ends = [
        tip("trial", "trial"),
        tip("layer", "layer"),
        tip("epoch", "pruned after epoch", "quantitative"),
        tip("low", "forecast, low", "quantitative", ".2f"),
        tip("mid", "forecast, middle", "quantitative", ".2f"),
        tip("high", "forecast, high", "quantitative", ".2f"),
    ]
    quarter = alt.Chart().mark_rule(strokeDash=[2, 3], color=GREY).encode(y=alt.YDatum(1))
    parts = [
        quarter,
        seen.mark_line(strokeWidth=1.4).encode(
            colour,
            alt.Detail(field="trial", type="nominal"),
            opacity=alt.when(alt.FieldEqualPredicate(field="kind", equal=_OTHER_KIND))
            .then(alt.value(0.4))
            .otherwise(alt.value(1)),
            tooltip=tips,
        ),
    ]
    if ahead:
        parts += [
            cut.mark_rule(strokeDash=[3, 3], strokeWidth=1.2).encode(
                x, y, to_end, alt.Y2(field="mid"), colour, tooltip=ends
            ),
            cut.mark_rule(strokeWidth=4, opacity=0.55, xOffset=-2).encode(
                alt.X(**number_of("end", "epoch", domain=[0, max_epochs], nice=False)),
                alt.Y(field="low", type="quantitative"),
                alt.Y2(field="high"),
                colour,
                tooltip=ends,
            ),
            cut.mark_point(filled=True, size=34, opacity=1).encode(x, y, colour, tooltip=ends),
        ]
    return (
        alt.layer(*parts, data=values([*lines, *ahead]))
        .properties(width=220, height=170)
        .facet(
            facet=alt.Facet(
                field="layer",
                type="nominal",
                sort=layers,
                title=None,
                header=alt.Header(labelAnchor="start", labelFontWeight="bold"),
            ),
            columns=3,
        )
    )


def _finding(turned: list[TrialResult], layers: list[str]) -> str:
    best = next((t for t in turned if t.state == "complete"), None)
    if best is None:
        return "How far each layer has turned so far"
    hidden = RotationTarget().hidden(best.curve.layers)
    known = [
        best.rotation[name]
        for name in (best.curve.layers[i] for i in hidden)
        if name in best.rotation
    ]
    if not known:
        return "How far each layer turned"
    low, high = min(known), max(known)
    far = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    return f"The best trial's hidden layers ended at {far}; 1 is a quarter turn"


def _caption(
    turned: list[TrialResult], picked: list[tuple[TrialResult, str]], layers: list[str]
) -> str:
    counts = Counter(kind for _, kind in picked)
    some = (
        "" if len(picked) == len(turned) else f" Of {len(turned):,} trials {len(picked)} are drawn."
    )
    whole = max(len(trial.curve.layers) for trial in turned)
    fewer = "" if len(layers) >= whole else f" {len(layers)} of {whole} layers are drawn."
    cut = (
        " A dot is the moment of the verdict, the dashed line leads to the forecast's middle, the "
        "bar on the right is its 90 % interval."
        if counts[_PRUNED_KIND]
        else ""
    )
    return (
        "Cosine distance of each layer's weights from their initial values, by epochs trained. "
        f"The dotted line is a quarter turn.{cut}{some}{fewer}"
    )
