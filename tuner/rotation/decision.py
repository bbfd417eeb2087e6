"""decide: the one function that decides whether a trial continues, whoever asks."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from tuner.rotation.curve import RotationCurve
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.halving import (
    EPOCH_ROUNDING,
    FEATURES,
    HalvingState,
    PruningConfig,
    Rung,
    has_diverged,
)

# High rates, and none of the usual warmup, can turn layers to 1 without learning anything
# (arXiv:1806.01603). Of 106 recorded 20-epoch runs this catches 4, all in the worst fifth of their
# family by final accuracy [measured].
_TURNED = 0.5
_EPOCHS_TO_LEARN = 2


@dataclass(frozen=True)
class DecisionInput:
    """What the rules look at: one trial at its last report, which must exist."""

    number: int
    curve: RotationCurve
    field: HalvingState
    forecast: Forecast | None

    @property
    def criteria(self) -> PruningConfig:
        return self.field.criteria

    @property
    def epoch(self) -> float:
        """Epochs finished, rounded to a whole number where it is one but for rounding."""
        epoch = self.curve.epochs[-1]
        return float(round(epoch)) if abs(epoch - round(epoch)) < EPOCH_ROUNDING else epoch

    @property
    def reached(self) -> float:
        """What the layers have reached; NaN if unknown."""
        return self.criteria.target.reached(self.curve.distances[-1], self.curve.layers)

    @property
    def rung(self) -> Rung | None:
        """The last rung that the trial has passed, if it is compared with others there."""
        rung = self.field.rung_of(self.curve)
        return rung if rung is not None and self.number in rung else None


def diverged(case: DecisionInput) -> str | None:
    """Prune when the train loss is no longer finite, or no number after it has been one."""
    if not has_diverged(case.curve, len(case.curve) - 1):
        return None
    loss = case.curve.train_loss[-1]
    return f"diverged: the train loss is {loss:g} after epoch {round(case.epoch, 3):g}"


def rotating_without_learning(case: DecisionInput) -> str | None:
    """Prune when the layers have turned far and the train loss is where it started, or above."""
    losses = [loss for loss in case.curve.train_loss if not math.isnan(loss)]
    warm = case.epoch >= max(case.criteria.warmup_epochs, _EPOCHS_TO_LEARN)
    if not warm or len(losses) < 2 or not case.reached > _TURNED or losses[-1] < losses[0]:
        return None
    return (
        f"rotating without learning: the hidden layers have turned by {case.reached:.2f}, over "
        f"{_TURNED:g}, and the train loss went from {losses[0]:.4g} to {losses[-1]:.4g} by epoch "
        f"{case.epoch:g}{_furthest_behind(case)}"
    )


def behind_peers(case: DecisionInput, *, final: bool = False) -> str | None:
    """Prune unless the trial is among those that may go on from the last rung it has passed.

    Successive halving without a barrier (Li et al., arXiv:1810.05934), by metric, train loss and
    rotation as far as each has ranked this study's own trials. `final` gives the reason of a
    trial that is not to go on whatever its place: others had gone on when it came to it.

    A target that is out of reach is said first. It ends no trial that its peers let go on: good
    runs can end far below a quarter turn, and pruning for the target alone lost the best of them
    wherever it was tried (docs/log.md, 2026-11-23).
    """
    rung = case.rung
    if rung is None:
        return None
    place, allowed = rung.place(case.number), case.field.promotion_quota(rung, more_to_come=False)
    if place <= allowed and not final:
        return None
    return (
        f"{_target_out_of_reach(case)}peers: place {place} of {len(rung)} at epoch {rung.epoch:g} "
        f"by {_compared_by(case, rung)}, where the best {allowed} of {case.field.started} go on"
        f"{_furthest_behind(case)}"
    )


def _target_out_of_reach(case: DecisionInput) -> str:
    """Return a clause that even the upper end of the forecast misses the target; empty if not, or
    where rotation has not ranked this study's own trials."""
    if case.forecast is None or case.field.weights.rotation_is != "informative":
        return ""
    target = case.criteria.target
    best_hope = target.reached(case.forecast.high, case.curve.layers)
    if not best_hope < target.floor:
        return ""
    return (
        f"target out of reach: the hidden layers are forecast to end at {best_hope:.2f} at the "
        f"most, below {target.floor:.2f}; "
    )


def _compared_by(case: DecisionInput, rung: Rung) -> str:
    """Say what trials are compared by at a rung: what is known there and has a weight."""
    used = case.field.weights.used
    names = [
        case.criteria.metric_name if name == "metric" else name
        for name, weight, is_known in zip(FEATURES, used, rung.known, strict=True)
        if weight > 0 and is_known
    ]
    if not names:
        return "nothing that has a weight"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _furthest_behind(case: DecisionInput) -> str:
    """Return a clause on the hidden layer forecast to turn least; empty without a forecast."""
    if case.forecast is None:
        return ""
    forecast, target = case.forecast, case.criteria.target
    hidden = [
        index for index in target.hidden(forecast.layers) if not math.isnan(forecast.mid[index])
    ]
    if not hidden:
        return ""
    least = min(hidden, key=lambda index: forecast.mid[index])
    return (
        f"; furthest behind is {forecast.layers[least]}, forecast to end at "
        f"{forecast.mid[least]:.2f} (90 % interval {forecast.low[least]:.2f} to "
        f"{forecast.high[least]:.2f}) against {target.floor:.2f}"
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
    field: HalvingState,
    *,
    may_wait: bool = False,
    final: bool = False,
    exempt: bool = False,
) -> Verdict:
    """Decide on a trial at its last report: prune it, with the reason, or let it go on.

    Pure: the same arguments give the same verdict. No evidence never prunes: an empty curve,
    unknown rotation, no metric, no peers. Nor does the last epoch, which has nothing to save. Of
    the trials that would be pruned, all but the diverged, a share drawn by the study's seed is
    audited instead.

    Args:
        number: of the trial in its study, >= 0.
        curve: what the trial has reported.
        field: how the trials of the study stood, this report included (`HalvingState.with_report`).
        may_wait: whether the trial can be paused and go on later; at a rung it then waits, and
            `HalvingState.next_promotable` says who goes on.
        final: whether the trial has waited at a rung and is not to go on: it is pruned for the
            peers that did.
        exempt: whether the trial is to be run to its end unless it diverges or does not learn.
    """
    if not len(curve):
        return Verdict(prune=False, reason="")
    prediction = forecast(curve)
    case = DecisionInput(number, curve, field, prediction)
    if case.epoch >= curve.max_epochs:
        return Verdict(prune=False, reason="", forecast=prediction)
    for rule in _GUARDS:
        reason = rule(case)
        if reason is not None:
            return _pruned(case, reason, audited=rule is not diverged)
    if exempt or not field.is_at_rung(curve):
        return Verdict(prune=False, reason="", forecast=prediction)
    reason = behind_peers(case, final=may_wait or final)
    if reason is None:
        return Verdict(prune=False, reason="", forecast=prediction)
    if may_wait:
        return Verdict(prune=False, reason=reason, forecast=prediction, wait=True)
    return _pruned(case, reason, audited=True)


def is_audited(number: int, criteria: PruningConfig) -> bool:
    """Whether a trial is trained to its end even if it is to be pruned; drawn by the seed."""
    return random.Random(f"{criteria.seed}:{number}").random() < criteria.audit


def _pruned(case: DecisionInput, reason: str, *, audited: bool) -> Verdict:
    curve = case.curve
    saved = f"; saves {round(curve.max_epochs - case.epoch, 3):g} of {curve.max_epochs} epochs"
    verdict = Verdict(prune=True, reason=reason + saved, forecast=case.forecast)
    if audited and is_audited(case.number, case.criteria):
        return replace(verdict, prune=False, audit=True)
    return verdict
