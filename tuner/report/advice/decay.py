"""The layers turn because weight decay shrinks what they began with, not because they learn.

It works on trials whose rotation has not been found to say anything, and is why it may not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

import numpy as np

from tuner.report.advice.case import ENOUGH, Advice, Case, s_of
from tuner.report.advice.parameters import Range, at_place, fitting, name_of
from tuner.report.advice.ranks import correlation, is_positive
from tuner.study.result import TrialResult


def turned_by_decay(case: Case) -> Iterator[Advice]:
    """Yield the advice to lower the weight decay and raise the rate.

    What falls is the norm, which a study does not keep. It shows in the curves: a layer that
    shrinks turns more by each step, so that rotation speeds up per learning rate spent.
    """
    trials = [trial for trial in case.learnt if _decay(case, trial) and case.rate(trial)]
    if len(trials) < ENOUGH:
        return
    turned = [case.turned(trial) for trial in trials]
    by_decay = correlation(turned, [_value(trial, _decay(case, trial)) for trial in trials])
    rates = _rates(case, trials)
    by_rate = correlation(turned, rates)
    by_score = correlation(turned, [case.score(trial) for trial in trials])
    count = len(trials)
    if not is_positive(by_decay, count) or is_positive(by_rate, count):
        return
    far = sorted(trials, key=case.turned, reverse=True)[: max(3, count // 4)]
    slow = _rates(case, far)
    speeding = sum(_speeds_up(case, trial) for trial in far)
    if is_positive(by_score, count) or median(slow) > median(rates) or 2 * speeding <= len(far):
        return
    leader = max(far, key=case.score)
    name, at = _decay(case, leader), case.rate(leader)
    assert name is not None
    assert at is not None
    rate_name, rate = at
    spread, rates_spread = case.space[name], case.space[rate_name]
    if not isinstance(spread, Range) or not isinstance(rates_spread, Range):
        return
    lower = fitting(spread, float(leader.params[name]) / 10)
    raised = fitting(rates_spread, max(rate, at_place(rates_spread, 0.5)))
    yield Advice(
        title=f"rotation follows {name}, not learning: lower it, and raise {rate_name}",
        evidence=(
            f"over {count} trials rotation goes with {name} (rank correlation {by_decay:.2f}), not "
            f"with {rate_name} ({by_rate:.2f}) nor with a better {case.result.metric} "
            f"({by_score:.2f}); {speeding} of the {len(far)} that turned furthest, at a median "
            f"{rate_name} of {median(slow):.3g}, turn faster the longer they run, as layers do "
            "whose norm falls"
        ),
        action=f"{name} {leader.params[name]:.3g} -> {lower:.3g} and {rate_name} {rate:.3g} -> "
        f"{raised:.3g} in trial {leader.number}'s configuration; trust {case.result.metric}, not "
        "rotation, until then",
        params={**leader.params, name: lower, rate_name: raised},
        config=leader.config,
    )


def _decay(case: Case, trial: TrialResult) -> str | None:
    return name_of("decay", trial.params, case.space)


def _rates(case: Case, trials: list[TrialResult]) -> list[float]:
    return [rate[1] for trial in trials if (rate := case.rate(trial))]


def _value(trial: TrialResult, name: str | None) -> float:
    return float(trial.params[name or ""])


def _speeds_up(case: Case, trial: TrialResult) -> bool:
    """Whether s grows faster in the second half of the learning rate spent than in the first."""
    curve = trial.curve
    spent = curve.lr_progress
    if any(math.isnan(share) for share in spent):
        spent = tuple(epoch / curve.max_epochs for epoch in curve.epochs)
    s = [s_of(case.turned(trial, report)) for report in range(len(curve))]
    half = float(np.interp(spent[-1] / 2, [0.0, *spent], [0.0, *s]))
    return s[-1] - half > half
