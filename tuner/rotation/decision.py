"""decide: the one function that decides whether a trial continues, pauses or is pruned."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from enum import Enum

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
    """One trial at its last report, as the rules see it; the curve has at least one report."""

    number: int
    curve: RotationCurve
    state: HalvingState
    forecast: Forecast | None

    @property
    def config(self) -> PruningConfig:
        return self.state.config

    @property
    def epoch(self) -> float:
        """Epochs finished; a number that is whole up to rounding error is rounded."""
        epoch = self.curve.epochs[-1]
        return float(round(epoch)) if abs(epoch - round(epoch)) < EPOCH_ROUNDING else epoch

    @property
    def reached(self) -> float:
        """The distance that the layers have reached; NaN if unknown."""
        return self.config.target.reached(self.curve.distances[-1], self.curve.layers)

    @property
    def rung(self) -> Rung | None:
        """The last rung that the trial has reached, if it is compared with others there."""
        rung = self.state.rung_of(self.curve)
        return rung if rung is not None and self.number in rung else None


def diverged(case: DecisionInput) -> str | None:
    """Prune a trial whose train loss is no longer finite."""
    if not has_diverged(case.curve, len(case.curve) - 1):
        return None
    loss = case.curve.train_loss[-1]
    return f"diverged: the train loss is {loss:g} after epoch {round(case.epoch, 3):g}"


def rotating_without_learning(case: DecisionInput) -> str | None:
    """Prune a trial whose layers have turned far while its train loss has not fallen."""
    losses = [loss for loss in case.curve.train_loss if not math.isnan(loss)]
    warm = case.epoch >= max(case.config.warmup_epochs, _EPOCHS_TO_LEARN)
    if not warm or len(losses) < 2 or not case.reached > _TURNED or losses[-1] < losses[0]:
        return None
    return (
        f"rotating without learning: the hidden layers have turned by {case.reached:.2f}, over "
        f"{_TURNED:g}, and the train loss went from {losses[0]:.4g} to {losses[-1]:.4g} by epoch "
        f"{case.epoch:g}{_furthest_behind(case)}"
    )


def behind_peers(case: DecisionInput, *, final: bool = False) -> str | None:
    """Prune a trial that the promotion quota of its last rung does not admit.

    This is successive halving without a barrier (Li et al., arXiv:1810.05934). Metric, train loss
    and rotation each count as far as they have ranked this study's own trials.

    A target that is out of reach comes first in the reason. It prunes no trial on its own: good
    runs can end far below a quarter turn, and pruning for the target alone lost the best of them in
    every experiment (docs/log.md, 2026-11-23).

    Args:
        case: the trial.
        final: give the reason even for a trial that the quota admits, because other trials have
            taken the places.
    """
    rung = case.rung
    if rung is None:
        return None
    place, allowed = rung.place(case.number), case.state.promotion_quota(rung, more_to_come=False)
    if place <= allowed and not final:
        return None
    return (
        f"{_target_out_of_reach(case)}peers: place {place} of {len(rung)} at epoch {rung.epoch:g} "
        f"by {_compared_by(case, rung)}, where the best {allowed} of {case.state.started} go on"
        f"{_furthest_behind(case)}"
    )


def _target_out_of_reach(case: DecisionInput) -> str:
    """Return a clause if even the upper end of the forecast misses the target, else "".

    It is empty too while rotation has not ranked this study's own trials.
    """
    if case.forecast is None or case.state.weights.rotation_is != "informative":
        return ""
    target = case.config.target
    best_hope = target.reached(case.forecast.high, case.curve.layers)
    if not best_hope < target.floor:
        return ""
    return (
        f"target out of reach: the hidden layers are forecast to end at {best_hope:.2f} at the "
        f"most, below {target.floor:.2f}; "
    )


def _compared_by(case: DecisionInput, rung: Rung) -> str:
    """Return the names of the features that are known at a rung and have a weight."""
    used = case.state.weights.used
    names = [
        case.config.metric_name if name == "metric" else name
        for name, weight, is_known in zip(FEATURES, used, rung.known, strict=True)
        if weight > 0 and is_known
    ]
    if not names:
        return "nothing that has a weight"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _furthest_behind(case: DecisionInput) -> str:
    """Return a clause on the hidden layer with the least forecast; empty without a forecast."""
    if case.forecast is None:
        return ""
    forecast, target = case.forecast, case.config.target
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


# The first rule that finds a reason prunes.
_GUARDS = (diverged, rotating_without_learning)


@dataclass(frozen=True)
class Verdict:
    """Whether to prune a trial, and why.

    Attributes:
        prune: whether the trial ends here.
        reason: one sentence with the rule, the values it compared, its threshold and the epochs
            saved; empty when the trial continues without one.
        forecast: at the time of the decision; None where there was none.
        pause: whether the trial pauses unless it is promoted at once; `prune` is then false.
        audit: whether the trial would be pruned for this reason, and is a control trial: it is
            trained to its end all the same. `prune` is then false.
    """

    prune: bool
    reason: str
    forecast: Forecast | None = None
    pause: bool = False
    audit: bool = False


CONTINUES = Verdict(prune=False, reason="")


class Action(Enum):
    """The next step of a trial after a report."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


def decide(
    number: int,
    curve: RotationCurve,
    state: HalvingState,
    *,
    may_pause: bool = False,
    final: bool = False,
    exempt: bool = False,
) -> Verdict:
    """Decide on a trial at its last report: prune it, pause it or let it continue.

    Pure: the same arguments give the same verdict. Missing evidence never prunes: an empty curve,
    unknown rotation, no metric, no peers. The last epoch never prunes either, because it saves
    nothing. A share of the trials that would be pruned, drawn by the study's seed, become control
    trials instead; a diverged trial never does.

    Args:
        number: number of the trial in its study, >= 0.
        curve: all reports of the trial.
        state: the standing of all trials, this report included (`HalvingState.with_report`).
        may_pause: whether the trial can pause. At a rung it then pauses, and
            `HalvingState.next_promotable` chooses the trial that continues.
        final: whether the trial is paused at a rung and cannot continue. It is then pruned.
        exempt: whether the trial runs to its end unless it diverges or does not learn.
    """
    if not len(curve):
        return CONTINUES
    prediction = forecast(curve)
    case = DecisionInput(number, curve, state, prediction)
    if case.epoch >= curve.max_epochs:
        return Verdict(prune=False, reason="", forecast=prediction)
    for rule in _GUARDS:
        reason = rule(case)
        if reason is not None:
            return _pruned(case, reason, audited=rule is not diverged)
    if exempt or not state.is_at_rung(curve):
        return Verdict(prune=False, reason="", forecast=prediction)
    reason = behind_peers(case, final=may_pause or final)
    if reason is None:
        return Verdict(prune=False, reason="", forecast=prediction)
    if may_pause:
        return Verdict(prune=False, reason=reason, forecast=prediction, pause=True)
    return _pruned(case, reason, audited=True)


def is_audited(number: int, config: PruningConfig) -> bool:
    """Whether a trial is a control trial if it would be pruned; drawn by the seed."""
    return random.Random(f"{config.seed}:{number}").random() < config.audit


def _pruned(case: DecisionInput, reason: str, *, audited: bool) -> Verdict:
    curve = case.curve
    saved = f"; saves {round(curve.max_epochs - case.epoch, 3):g} of {curve.max_epochs} epochs"
    verdict = Verdict(prune=True, reason=reason + saved, forecast=case.forecast)
    if audited and is_audited(case.number, case.config):
        return replace(verdict, prune=False, audit=True)
    return verdict
