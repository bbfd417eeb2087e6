"""A study's trials as the page's script reads them: by column, curves thinned to what fits."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from tuner.report.charts.spread import spread
from tuner.report.html.embed import number, plain
from tuner.rotation import RotationCurve, forecast
from tuner.study.result import StudyResult, TrialResult

# About 5 characters each: 4 MB of curves at the most, of the 15 that a large page may weigh.
MOST_NUMBERS = 800_000
_LEAST_REPORTS = 4
_THOUSANDTHS = 1000


def records(result: StudyResult, only: Collection[int] | None = None) -> dict[str, Any]:
    """Return all trials, best first: a list for each column, and one of curves.

    With `only`, these of them, to be put into what a page has already; `rank` says where, from 0.

    Numbers that are not known are None. A curve holds layers (an index into `layers`), epochs,
    distances by layer in thousandths, the metric, the train loss, and for a trial that did not come
    to its end the forecast's low, middle and high by layer.
    """
    places = [
        place for place, trial in enumerate(result.ranked) if only is None or trial.number in only
    ]
    ranked = tuple(result.ranked[place] for place in places)
    settings = [trial.setting for trial in ranked]
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    networks = list(dict.fromkeys(trial.curve.layers for trial in ranked))
    index = {layers: place for place, layers in enumerate(networks)}
    reports, kept = thinning(ranked)
    return {
        "metric": result.metric,
        "mode": result.mode,
        "maxEpochs": result.max_epochs,
        "layers": networks,
        "reports": reports,
        "kept": kept,
        **({} if only is None else {"total": len(result.ranked), "rank": places}),
        "number": [trial.number for trial in ranked],
        "state": [trial.state for trial in ranked],
        "value": [number(trial.value) for trial in ranked],
        "min": [number(min(trial.rotation.values(), default=math.nan), 4) for trial in ranked],
        "lowest": [_lowest(trial) for trial in ranked],
        "mean": [number(_mean(trial.rotation.values()), 4) for trial in ranked],
        "epochs": [number(trial.epochs) for trial in ranked],
        "seconds": [number(trial.seconds, 4) for trial in ranked],
        "reason": [trial.reason for trial in ranked],
        "audit": [trial.audit for trial in ranked],
        "checkpoint": [trial.checkpoint for trial in ranked],
        "test": [{name: number(v) for name, v in trial.test.items()} for trial in ranked],
        "names": names,
        # A parameter that a trial has not is told apart from one that is None.
        "params": [
            [[plain(held[name])] if name in held else [] for held in settings] for name in names
        ],
        "curves": [
            curve_record(trial.curve, index[trial.curve.layers], reports) if place < kept else None
            for place, trial in enumerate(ranked)
        ],
    }


def thinning(trials: tuple[TrialResult, ...]) -> tuple[int, int]:
    """Return how many reports of a curve are kept, and of how many trials, best first."""

    def numbers(reports: int, among: Iterable[TrialResult]) -> int:
        return sum(min(len(t.curve), reports) * (len(t.curve.layers) + 3) for t in among)

    reports = max((len(trial.curve) for trial in trials), default=0)
    while reports > _LEAST_REPORTS and numbers(reports, trials) > MOST_NUMBERS:
        reports = max(_LEAST_REPORTS, int(0.8 * reports))
    total = kept = 0
    for kept, trial in enumerate(trials, start=1):
        total += numbers(reports, [trial])
        if total > MOST_NUMBERS:
            return reports, kept - 1
    return reports, kept


def curve_record(curve: RotationCurve, network: int, reports: int) -> dict[str, Any]:
    """Return a curve with so many of its reports, evenly spread, the last among them."""
    picked = spread(len(curve), reports)
    record: dict[str, Any] = {
        "layers": network,
        "epochs": [number(curve.epochs[i], 5) for i in picked],
        "distances": [
            [_thousandths(curve.distances[i][layer]) for i in picked]
            for layer in range(len(curve.layers))
        ],
        "metric": [number(curve.metric[i], 5) for i in picked],
        "loss": [number(curve.train_loss[i], 5) for i in picked],
    }
    if len(curve) and curve.layers and curve.progress < 1 and (ahead := forecast(curve)):
        ends = zip(ahead.low, ahead.mid, ahead.high, strict=True)
        record["forecast"] = [[_thousandths(end) for end in layer] for layer in ends]
    return record


def _lowest(trial: TrialResult) -> str:
    return min(trial.rotation, key=trial.rotation.__getitem__, default="")


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan


def _thousandths(distance: float) -> int | None:
    return round(_THOUSANDTHS * distance) if math.isfinite(distance) else None
