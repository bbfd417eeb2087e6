"""Which layers of which trials turned enough, too little, or too fast: a map."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import altair as alt
import numpy as np

from tuner.report.charts.drawn import BLUE, WIDTH, AnyChart, Drawn, tip, values
from tuner.report.charts.spread import spread
from tuner.rotation import RotationTarget, forecast
from tuner.study.result import StudyResult, TrialResult

_TRIALS, _LAYERS = 120, 40
# Most of a turn to speak of made within the first tenth of the training is too fast.
_EARLY, _MOST, _LEAST = 0.1, 0.5, 0.2
_LITTLE, _ENOUGH, _FAST, _FREE = "too little", "enough", "too fast", "no target"
_COLOURS = {_LITTLE: "#e0a458", _ENOUGH: BLUE, _FAST: "#a83e6c", _FREE: "#b3b9c1"}


def drawn(result: StudyResult) -> Drawn | None:
    """Return the map; None where no trial has reported rotation."""
    turned = [
        (rank, trial)
        for rank, trial in enumerate(result.ranked, start=1)
        if len(trial.curve) and trial.curve.layers
    ]
    if not turned:
        return None
    network, _ = Counter(trial.curve.layers for _, trial in turned).most_common(1)[0]
    alike = [(rank, trial) for rank, trial in turned if trial.curve.layers == network]
    picked = [alike[i] for i in spread(len(alike), _TRIALS)]
    layers = [network[i] for i in spread(len(network), _LAYERS)]
    target = RotationTarget()
    cells = [
        cell
        for place, (rank, trial) in enumerate(picked, start=1)
        for cell in _cells(place, rank, trial, target)
        if cell["layer"] in layers
    ]
    return Drawn(
        _chart(cells, layers, every=len(picked) == len(result.trials)),
        _finding(cells, len(picked)),
        _caption(result, turned, len(alike), len(picked), len(network), target),
    )


def _cells(
    place: int, rank: int, trial: TrialResult, target: RotationTarget
) -> list[dict[str, Any]]:
    curve = trial.curve
    expected = forecast(curve)
    ends = expected.mid if expected else curve.distances[-1]
    return [
        {
            "place": place,
            "rank": rank,
            "trial": trial.number,
            "state": trial.state,
            "layer": layer,
            "end": round(end, 3),
            "verdict": _verdict(trial, index, end, bar - target.tolerance),
        }
        for index, (layer, end, bar) in enumerate(
            zip(curve.layers, ends, target.bars(curve.layers), strict=True)
        )
        if math.isfinite(end)
    ]


def _verdict(trial: TrialResult, layer: int, end: float, floor: float) -> str:
    """Say how a layer turned; `floor` is NaN for one that has no target."""
    curve = trial.curve
    known = [
        (epoch, row[layer])
        for epoch, row in zip(curve.epochs, curve.distances, strict=True)
        if math.isfinite(row[layer])
    ]
    epochs, distances = zip(*known, strict=True) if known else ((), ())
    early = float(np.interp(_EARLY * curve.max_epochs, (0.0, *epochs), (0.0, *distances)))
    if early > _LEAST and early > _MOST * end:
        return _FAST
    if math.isnan(floor):
        return _FREE
    return _ENOUGH if end >= floor else _LITTLE


def _chart(cells: list[dict[str, Any]], layers: list[str], every: bool) -> AnyChart:
    chart: AnyChart = (
        alt.Chart(values(cells))
        .mark_rect()
        .encode(
            alt.X(
                field="place",
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


def _finding(cells: list[dict[str, Any]], trials: int) -> str:
    fast = Counter(cell["layer"] for cell in cells if cell["verdict"] == _FAST)
    little = Counter(cell["layer"] for cell in cells if cell["verdict"] == _LITTLE)
    if little and little.most_common(1)[0][1] >= max(fast.values(), default=0):
        layer, count = little.most_common(1)[0]
        often = sum(2 * times > trials for times in little.values())
        if often > 1:
            whole = len({cell["layer"] for cell in cells})
            return f"{often} of {whole} layers turned too little in most trials"
        return _of_layer(cells, layer, _LITTLE, count, trials)
    if fast:
        layer, count = fast.most_common(1)[0]
        return _of_layer(cells, layer, _FAST, count, trials)
    return "Every layer that has a target turned far enough"


def _of_layer(
    cells: list[dict[str, Any]], layer: str, verdict: str, count: int, trials: int
) -> str:
    """Say how often a layer turned so, and whether that kept a trial from being the best."""
    said = f"{layer} turned {verdict} in {count} of {trials} trials"
    best = min((cell for cell in cells if cell["layer"] == layer), key=lambda cell: cell["rank"])
    return f"{said}, the best among them" if best["verdict"] == verdict else said


def _caption(
    result: StudyResult,
    turned: list[tuple[int, TrialResult]],
    alike: int,
    picked: int,
    layers: int,
    target: RotationTarget,
) -> str:
    others = len(turned) - alike
    said = [
        "Where each layer ends, or is forecast to end, trial by trial, best on the left.",
        f"Enough is {target.floor:.1f} or more in hidden layers; the first layer and the last have "
        "no target.",
        "Too fast is most of a turn within the first tenth of the training.",
    ]
    if picked < alike:
        said.append(f"{picked} of {alike:,} trials are drawn, evenly by rank.")
    if others:
        said.append(f"{others:,} trials of other networks are left out.")
    if layers > _LAYERS:
        said.append(f"{_LAYERS} of {layers} layers are drawn.")
    return " ".join(said)
