"""Charts of rotation: curves by layer, the map of layers by trials, and the charts of a trial."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import altair as alt
import numpy as np

from tuner.report.charts.base import WIDTH, ChartSpec, spread
from tuner.report.formatting import distance_words, other_bars
from tuner.rotation import RotationTarget, forecast
from tuner.study.result import StudyResult, TrialResult
from tuner.vega import BLUE, GREY, ORANGE, AnyChart, number_of, tip, values

_BEST, _PRUNED, _OTHERS = 3, 3, 40
_CURVE_LAYERS, _REPORTS = 12, 60
_KINDS = {"among the best": BLUE, "pruned, with its forecast": ORANGE, "others": GREY}
_BEST_KIND, _PRUNED_KIND, _OTHER_KIND = _KINDS


def draw_rotation(result: StudyResult) -> ChartSpec | None:
    """Return the rotation curves by layer; None if no trial has reported rotation."""
    turned = [t for t in result.ranked if len(t.curve) and t.curve.layers]
    if not turned:
        return None
    layers = shown_layers(turned)
    picked = _picked(turned)
    target = result.rotation_target
    lines = [row for trial, kind in picked for row in _curve(trial, kind, layers)]
    bars = _bars(turned, layers, target)
    forecasts = [
        row for trial, kind in picked if kind == _PRUNED_KIND for row in _forecasts(trial, layers)
    ]
    kinds = [kind for kind in _KINDS if any(kind == picked_as for _, picked_as in picked)]
    return ChartSpec(
        _curves_chart(lines, forecasts, bars, kinds, layers, result.max_epochs),
        _curves_finding(turned, target),
        _curves_caption(turned, picked, layers, target),
    )


def shown_layers(trials: list[TrialResult]) -> list[str]:
    """Return the layers of the most common network, up to 12 of them, in model order."""
    network = _most_common_network(trials)
    return [network[i] for i in spread(len(network), _CURVE_LAYERS)]


def _most_common_network(trials: list[TrialResult]) -> tuple[str, ...]:
    network, _ = Counter(trial.curve.layers for trial in trials).most_common(1)[0]
    return network


def _bars(
    turned: list[TrialResult], layers: list[str], target: RotationTarget
) -> list[dict[str, Any]]:
    """Return the target distance of each of these layers that has a target."""
    network = _most_common_network(turned)
    return [
        {"layer": layer, "bar": round(bar, 4)}
        for layer, bar in zip(network, target.bars(network), strict=True)
        if layer in layers and not math.isnan(bar)
    ]


def _picked(turned: list[TrialResult]) -> list[tuple[TrialResult, str]]:
    best = [trial for trial in turned if trial.state == "complete"][:_BEST]
    # The forecasts of the trials that were pruned last matter most.
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


def _curve(trial: TrialResult, kind: str, layers: list[str]) -> list[dict[str, Any]]:
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


def _forecasts(trial: TrialResult, layers: list[str]) -> list[dict[str, Any]]:
    """Return the last report and the forecast of a pruned trial, for each layer."""
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


def _curves_chart(
    lines: list[dict[str, Any]],
    forecasts: list[dict[str, Any]],
    bars: list[dict[str, Any]],
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
    highest = [row["bar"] for row in bars] + [row["high"] for row in forecasts]
    top = max([1.0, *(row["distance"] for row in lines), *highest])
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
    target_line = (
        alt.Chart()
        .transform_filter("isValid(datum.bar)")
        .mark_rule(strokeDash=[2, 3], color=GREY)
        .encode(alt.Y(field="bar", type="quantitative"))
    )
    parts = [
        target_line,
        seen.mark_line(strokeWidth=1.4).encode(
            colour,
            alt.Detail(field="trial", type="nominal"),
            opacity=alt.when(alt.FieldEqualPredicate(field="kind", equal=_OTHER_KIND))
            .then(alt.value(0.4))
            .otherwise(alt.value(1)),
            tooltip=tips,
        ),
    ]
    if forecasts:
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
        alt.layer(*parts, data=values([*lines, *forecasts, *bars]))
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


def _curves_finding(turned: list[TrialResult], target: RotationTarget) -> str:
    best = next((t for t in turned if t.state == "complete"), None)
    if best is None:
        return "Rotation of each layer so far"
    hidden = target.hidden(best.curve.layers)
    known = [
        best.rotation[name]
        for name in (best.curve.layers[i] for i in hidden)
        if name in best.rotation
    ]
    if not known:
        return "Rotation of each layer"
    low, high = min(known), max(known)
    far = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    goal = "1 is a quarter turn" if target.distance == 1 else f"the target is {target.distance:g}"
    return f"The best trial's hidden layers ended at {far}; {goal}"


def _curves_caption(
    turned: list[TrialResult],
    picked: list[tuple[TrialResult, str]],
    layers: list[str],
    target: RotationTarget,
) -> str:
    counts = Counter(kind for _, kind in picked)
    some = (
        "" if len(picked) == len(turned) else f" Of {len(turned):,} trials {len(picked)} are drawn."
    )
    whole = max(len(trial.curve.layers) for trial in turned)
    fewer = "" if len(layers) >= whole else f" {len(layers)} of {whole} layers are drawn."
    cut = (
        " A dot marks the pruning of a trial. The dashed line leads to the middle of its forecast. "
        "The bar on the right is the 90 % interval of the forecast."
        if counts[_PRUNED_KIND]
        else ""
    )
    return (
        "Cosine distance of each layer's weights from their initial values, by epochs trained. "
        f"The dotted line is the target, {distance_words(target)} in hidden layers."
        f"{cut}{some}{fewer}"
    )


_MAP_TRIALS, _MAP_LAYERS = 120, 40
# A layer is too fast if it makes more than _MOST of its rotation in the first _EARLY of the
# training, and this rotation is more than _LEAST of the target.
_EARLY, _MOST, _LEAST = 0.1, 0.5, 0.2
_LITTLE, _ENOUGH, _FAST, _FREE = "too little", "enough", "too fast", "no target"
_COLOURS = {_LITTLE: "#e0a458", _ENOUGH: BLUE, _FAST: "#a83e6c", _FREE: "#b3b9c1"}


def draw_layers(result: StudyResult) -> ChartSpec | None:
    """Return the map of layers by trials; None if no trial has reported rotation."""
    turned = [
        (rank, trial)
        for rank, trial in enumerate(result.ranked, start=1)
        if len(trial.curve) and trial.curve.layers
    ]
    if not turned:
        return None
    network = _most_common_network([trial for _, trial in turned])
    alike = [(rank, trial) for rank, trial in turned if trial.curve.layers == network]
    picked = [alike[i] for i in spread(len(alike), _MAP_TRIALS)]
    layers = [network[i] for i in spread(len(network), _MAP_LAYERS)]
    target = result.rotation_target
    cells = [
        cell
        for position, (rank, trial) in enumerate(picked, start=1)
        for cell in _cells(position, rank, trial, target)
        if cell["layer"] in layers
    ]
    return ChartSpec(
        _map_chart(cells, layers, every=len(picked) == len(result.trials)),
        _map_finding(cells, len(picked)),
        _map_caption(result, turned, len(alike), len(picked), len(network), target),
    )


def _cells(
    position: int, rank: int, trial: TrialResult, target: RotationTarget
) -> list[dict[str, Any]]:
    curve = trial.curve
    expected = forecast(curve)
    ends = expected.mid if expected else curve.distances[-1]
    return [
        {
            "position": position,
            "rank": rank,
            "trial": trial.number,
            "state": trial.state,
            "layer": layer,
            "end": round(end, 3),
            "verdict": _verdict(trial, index, end, floor, _LEAST * target.distance),
        }
        for index, (layer, end, floor) in enumerate(
            zip(curve.layers, ends, target.floors(curve.layers), strict=True)
        )
        if math.isfinite(end)
    ]


def _verdict(trial: TrialResult, layer: int, end: float, floor: float, least: float) -> str:
    """Return whether a layer turned enough, too little or too fast, or has no target.

    Args:
        trial: the trial with the layer.
        layer: the index of the layer.
        end: the distance of the layer at the end, or its forecast.
        floor: the distance that is enough; NaN for a layer without a target.
        least: the smallest early distance that can be too fast.
    """
    curve = trial.curve
    known = [
        (epoch, row[layer])
        for epoch, row in zip(curve.epochs, curve.distances, strict=True)
        if math.isfinite(row[layer])
    ]
    epochs, distances = zip(*known, strict=True) if known else ((), ())
    early = float(np.interp(_EARLY * curve.max_epochs, (0.0, *epochs), (0.0, *distances)))
    if early > least and early > _MOST * end:
        return _FAST
    if math.isnan(floor):
        return _FREE
    return _ENOUGH if end >= floor else _LITTLE


def _map_chart(cells: list[dict[str, Any]], layers: list[str], every: bool) -> AnyChart:
    chart: AnyChart = (
        alt.Chart(values(cells))
        .mark_rect()
        .encode(
            alt.X(
                field="position",
                type="ordinal",
                title="rank" if every else "trials by rank, evenly picked",
                axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labels=every, ticks=False),
                scale=alt.Scale(paddingInner=0.08),
            ),
            alt.Y(
                field="layer",
                type="nominal",
                sort=layers,
                title=None,
                axis=alt.Axis(grid=False),
                scale=alt.Scale(paddingInner=0.12),
            ),
            alt.Color(
                field="verdict",
                type="nominal",
                title=None,
                scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                tip("trial", "trial"),
                tip("rank", "rank"),
                tip("state", "state"),
                tip("layer", "layer"),
                tip("end", "ends at", "quantitative", ".3f"),
                tip("verdict", "verdict"),
            ],
        )
        .properties(width=WIDTH, height=max(90, 20 * len(layers)))
    )
    return chart


def _map_finding(cells: list[dict[str, Any]], trials: int) -> str:
    fast = Counter(cell["layer"] for cell in cells if cell["verdict"] == _FAST)
    little = Counter(cell["layer"] for cell in cells if cell["verdict"] == _LITTLE)
    if little and little.most_common(1)[0][1] >= max(fast.values(), default=0):
        layer, count = little.most_common(1)[0]
        often = sum(2 * times > trials for times in little.values())
        if often > 1:
            whole = len({cell["layer"] for cell in cells})
            return f"{often} of {whole} layers turned too little in most trials"
        return _layer_finding(cells, layer, _LITTLE, count, trials)
    if fast:
        layer, count = fast.most_common(1)[0]
        return _layer_finding(cells, layer, _FAST, count, trials)
    return "Every layer that has a target turned far enough"


def _layer_finding(
    cells: list[dict[str, Any]], layer: str, verdict: str, count: int, trials: int
) -> str:
    """Return the number of trials with this verdict on a layer, and whether the best has it."""
    text = f"{layer} turned {verdict} in {count} of {trials} trials"
    best = min((cell for cell in cells if cell["layer"] == layer), key=lambda cell: cell["rank"])
    return f"{text}, including the best trial" if best["verdict"] == verdict else text


def _map_caption(
    result: StudyResult,
    turned: list[tuple[int, TrialResult]],
    alike: int,
    picked: int,
    layers: int,
    target: RotationTarget,
) -> str:
    others = len(turned) - alike
    sentences = [
        "Final distance of each layer, or its forecast. A column is a trial, the best on the left.",
        f"Enough is {target.floor:.3g} or more in hidden layers; {other_bars(target)}.",
        "Too fast is more than half of the rotation in the first tenth of the training.",
    ]
    if picked < alike:
        sentences.append(f"{picked} of {alike:,} trials are drawn, evenly by rank.")
    if others:
        sentences.append(f"{others:,} trials of other networks are not drawn.")
    if layers > _MAP_LAYERS:
        sentences.append(f"{_MAP_LAYERS} of {layers} layers are drawn.")
    return " ".join(sentences)


def trial_templates(result: StudyResult) -> dict[str, Any]:
    """Return Vega-Lite charts of a trial's rotation, metric and train loss, without data."""
    return {
        "rotation": _rotation(result.max_epochs).to_dict(validate=False),
        "metric": _trial_line("value", result.metric, BLUE, result.max_epochs).to_dict(
            validate=False
        ),
        "loss": _trial_line("value", "train loss", ORANGE, result.max_epochs).to_dict(
            validate=False
        ),
    }


def _epochs(max_epochs: int, field: str = "epoch") -> alt.X:
    return alt.X(**number_of(field, "epoch", domain=[0, max_epochs], nice=False))


def _rotation(max_epochs: int) -> AnyChart:
    colour = alt.Color(
        field="layer",
        type="nominal",
        title=None,
        sort=None,
        legend=alt.Legend(orient="bottom", columns=2, labelLimit=150, symbolLimit=60),
    )
    x = _epochs(max_epochs)
    y = alt.Y(**number_of("distance", "cosine distance", zero=True))
    seen = alt.Chart(alt.NamedData(name="seen"))
    forecasts = alt.Chart(alt.NamedData(name="ahead"))
    target_line = (
        alt.Chart(alt.NamedData(name="target"))
        .mark_rule(strokeDash=[2, 3], color=GREY)
        .encode(alt.Y(field="distance", type="quantitative"))
    )
    tips = [
        tip("layer", "layer"),
        tip("epoch", "epoch", "quantitative"),
        tip("distance", "distance", "quantitative", ".3f"),
    ]
    ends = [
        tip("layer", "layer"),
        tip("low", "forecast, low", "quantitative", ".2f"),
        tip("mid", "forecast, middle", "quantitative", ".2f"),
        tip("high", "forecast, high", "quantitative", ".2f"),
    ]
    chart: AnyChart = alt.layer(
        target_line,
        seen.mark_line(point=alt.OverlayMarkDef(size=14)).encode(x, y, colour, tooltip=tips),
        forecasts.mark_rule(strokeDash=[3, 3]).encode(
            x, y, alt.X2(field="end"), alt.Y2(field="mid"), colour, tooltip=ends
        ),
        forecasts.mark_rule(strokeWidth=4, opacity=0.5, xOffset=-2).encode(
            _epochs(max_epochs, "end"),
            alt.Y(field="low", type="quantitative"),
            alt.Y2(field="high"),
            colour,
            tooltip=ends,
        ),
    ).properties(height=220)
    return chart


def _trial_line(field: str, title: str, colour: str, max_epochs: int) -> AnyChart:
    chart: alt.Chart = (
        alt.Chart(alt.NamedData(name="seen"))
        .mark_line(color=colour, point=alt.OverlayMarkDef(color=colour, size=14))
        .encode(
            _epochs(max_epochs),
            alt.Y(**number_of(field, title)),
            tooltip=[tip("epoch", "epoch", "quantitative"), tip(field, title, "quantitative")],
        )
        .properties(height=150)
    )
    return chart
