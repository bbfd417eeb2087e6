"""Most of the turn is made in the first tenth of the training, and such trials end worse.

It compares when layers turn, not how far, and so speaks also where that has been found to say
nothing: turning at once without learning is a reason for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np

from tuner.report.advice.case import ENOUGH, Advice, Case
from tuner.report.advice.parameters import fitting, name_of
from tuner.report.advice.ranks import are_lower
from tuner.study.result import TrialResult

_EARLY = 0.1  # of the training
_MOST = 0.5  # of the turn
# Less than this is no turn to speak of, however early.
_LEAST = 0.2


def turned_early(case: Case) -> Iterator[Advice]:
    """Yield the advice to warm up."""
    known = [(trial, *_turns(case, trial)) for trial in case.ended]
    known = [(trial, early, whole) for trial, early, whole in known if not math.isnan(early)]
    if len(known) < ENOUGH:
        return
    hasty = [
        (trial, early, whole)
        for trial, early, whole in known
        if early > _LEAST and early > _MOST * whole
    ]
    others = [trial for trial, early, whole in known if early <= _MOST * whole]
    scores = [case.score(trial) for trial, _, _ in hasty]
    if not are_lower(scores, [case.score(trial) for trial in others]):
        return
    found = _warmer(case, [trial for trial, _, _ in hasty])
    if found is None:
        return
    params, config, how = found
    share = median(early / whole for _, early, whole in hasty)
    metric = case.result.metric
    yield Advice(
        title="the layers turn too early: warm up",
        evidence=(
            f"{len(hasty)} trials make {share:.0%} of their turn in the first tenth of the "
            f"training and end at a median {metric} of "
            f"{median(trial.value for trial, _, _ in hasty):.4g}; the {len(others)} others at "
            f"{median(trial.value for trial in others):.4g}"
        ),
        action=how,
        params=params,
        config=config,
    )


def _turns(case: Case, trial: TrialResult) -> tuple[float, float]:
    """How far the layers had come after a tenth of the training, and at its end."""
    curve = trial.curve
    turned = [case.turned(trial, report) for report in range(len(curve))]
    if not turned or any(math.isnan(distance) for distance in turned):
        return math.nan, math.nan
    after = np.interp(_EARLY * curve.max_epochs, [0.0, *curve.epochs], [0.0, *turned])
    return float(after), turned[-1]


def _warmer(
    case: Case, hasty: list[TrialResult]
) -> tuple[dict[str, Any] | None, dict[str, Any], str] | None:
    """Return the best of these trials with a warmup of a tenth of the training, by parameters and
    config, and that in words; None where most of them have about that already, so that it is no
    remedy."""
    epochs = _EARLY * case.result.max_epochs
    names = {name_of("warmup", trial.params, case.space) for trial in hasty}
    if names == {None}:
        how = f"let the learning rate climb over the first {epochs:.2g} epochs"
        return None, {}, f"{how} (warmup_epochs in the config; no parameter of this space does it)"
    if len(names) > 1 or (name := names.pop()) is None:
        return None
    # A parameter that does not count in epochs goes to its top.
    wanted = fitting(case.space[name], epochs if "epoch" in name else math.inf)
    short = [trial for trial in hasty if trial.params[name] <= wanted / 2]
    if not short or len(short) < _MOST * len(hasty):
        return None
    leader = short[0]
    return (
        {**leader.params, name: wanted},
        leader.config,
        f"{name} {leader.params[name]:g} -> {wanted:g} in trial {leader.number}'s configuration",
    )
