"""decide: the one function that says whether a trial goes on, whoever asks."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tuner.rotation.curve import RotationCurve
from tuner.rotation.field import Criteria, Field
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.rules import (
    Case,
    behind_peers,
    diverged,
    rotating_without_learning,
)

# In this order: the first that finds a reason gives it.
_GUARDS = (diverged, rotating_without_learning)


@dataclass(frozen=True)
class Verdict:
    """Whether to prune, and why: one sentence, empty when the trial simply goes on.

    Attributes:
        prune: whether the trial ends here.
        reason: the rule, what it saw, its threshold, and the epochs saved.
        forecast: at the time of the decision, None where there was none.
        wait: it goes on later or never, when more of its peers are known; `prune` is then false.
        audit: it would be pruned for this reason, and is trained to its end all the same to
            measure what pruning costs; `prune` is then false.
    """

    prune: bool
    reason: str
    forecast: Forecast | None = None
    wait: bool = False
    audit: bool = False


def decide(
    number: int,
    curve: RotationCurve,
    field: Field,
    *,
    may_wait: bool = False,
    closing: bool = False,
    whole: bool = False,
) -> Verdict:
    """Decide on a trial at its last report: prune it, with the reason, or let it go on.

    Pure: the same arguments give the same verdict. No evidence never prunes: an empty curve,
    unknown rotation, no metric, no peers. Nor does the last epoch, which has nothing to save. Of
    the trials that would be pruned, all but the diverged, a share drawn by the study's seed is
    audited instead.

    Args:
        number: of the trial in its study, >= 0.
        curve: what the trial has reported.
        field: how the trials of the study stood, this report included (`Field.with_report`).
        may_wait: whether the trial can be paused and go on later; at a rung it then waits, and
            `Field.next_up` says who goes on.
        closing: whether the trial has waited at a rung and is not to go on: it is pruned for the
            peers that did.
        whole: whether the trial is to be run to its end unless it diverges or does not learn.
    """
    if not len(curve):
        return Verdict(prune=False, reason="")
    prediction = forecast(curve)
    case = Case(number, curve, field, prediction)
    if case.epoch >= curve.max_epochs:
        return Verdict(prune=False, reason="", forecast=prediction)
    for rule in _GUARDS:
        reason = rule(case)
        if reason is not None:
            return _pruned(case, reason, audited=rule is not diverged)
    if whole or not field.is_at_rung(curve):
        return Verdict(prune=False, reason="", forecast=prediction)
    reason = behind_peers(case, closing=may_wait or closing)
    if reason is None:
        return Verdict(prune=False, reason="", forecast=prediction)
    if may_wait:
        return Verdict(prune=False, reason=reason, forecast=prediction, wait=True)
    return _pruned(case, reason, audited=True)


def is_audited(number: int, criteria: Criteria) -> bool:
    """Whether a trial is trained to its end even if it is to be pruned; drawn by the seed."""
    return random.Random(f"{criteria.seed}:{number}").random() < criteria.audit


def _pruned(case: Case, reason: str, *, audited: bool) -> Verdict:
    curve = case.curve
    saved = f"; saves {round(curve.max_epochs - case.epoch, 3):g} of {curve.max_epochs} epochs"
    verdict = Verdict(prune=True, reason=reason + saved, forecast=case.forecast)
    if audited and is_audited(case.number, case.criteria):
        return replace(verdict, prune=False, audit=True)
    return verdict
