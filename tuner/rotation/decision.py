"""decide: the one function that decides whether a trial continues, pauses or is pruned."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

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

# High rates without the usual warmup can turn layers to 1 while the network learns nothing
# (arXiv:1806.01603). This rule prunes 4 of 106 recorded 20-epoch runs. All 4 are in the worst fifth
# of their family by final accuracy [measured].
_TURNED = 0.5
_EPOCHS_TO_LEARN = 2

PEERS = "peers: "
"""The beginning of the reason when a trial ranks too low among its peers."""


@dataclass(frozen=True)
class DecisionInput:
    """The input of the pruning rules: one trial at its last report.

    Attributes:
        number: number of the trial.
        curve: all reports of the trial, at least one.
        state: the standing of all trials.
        forecast: the forecast of the trial's final rotation; None if no layer was measured yet.
    """

    number: int
    curve: RotationCurve
    state: HalvingState
    forecast: Forecast | None

    @property
    def config(self) -> PruningConfig:
        """The settings of the comparison."""
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
    """Return the reason to prune a trial whose train loss is no longer finite, else None."""
    if not has_diverged(case.curve, len(case.curve) - 1):
        return None
    return f"diverged: train loss {case.curve.train_loss[-1]:g} at epoch {_epochs(case.epoch)}"


def rotating_without_learning(case: DecisionInput) -> str | None:
    """Return the reason to prune a trial that turns its layers but does not learn, else None.

    The hidden layers have turned by more than .5, and neither the train loss nor the metric has
    improved. A loss may rise by design, as with a penalty that grows. Then the metric decides.
    """
    losses = [loss for loss in case.curve.train_loss if not math.isnan(loss)]
    warm = case.epoch >= max(case.config.warmup_epochs, _EPOCHS_TO_LEARN)
    if not warm or len(losses) < 2 or not case.reached > _TURNED or losses[-1] < losses[0]:
        return None
    metrics = [value for value in case.curve.metric if not math.isnan(value)]
    if len(metrics) > 1:
        gained = metrics[-1] - metrics[0]
        if (gained if case.config.mode == "max" else -gained) > 0:
            return None
    return (
        f"rotating without learning: train loss {losses[0]:.4g} to {losses[-1]:.4g}. "
        f"By epoch {_epochs(case.epoch)} the hidden layers have turned by {case.reached:.2f}, more "
        f"than {_TURNED:g}, and neither the train loss nor the metric has improved"
    )


def behind_peers(case: DecisionInput, *, final: bool = False) -> str | None:
    """Return the reason to prune a trial that its last rung's promotion quota excludes, else None.

    This is successive halving without a barrier (Li et al., arXiv:1810.05934). Metric, train loss
    and rotation have weights, which the state learns from this study's own trials.

    The reason also names a layer that will miss the target. A missed target alone prunes no trial:
    good runs can end far below a quarter turn. Pruning for the target alone lost the best of them
    in every experiment (docs/log.md, 2026-11-23).

    Args:
        case: the trial and its peers.
        final: whether other trials have taken the places. The reason is then returned even for a
            trial that the quota admits.
    """
    rung = case.rung
    if rung is None:
        return None
    place, allowed = rung.place(case.number), case.state.promotion_quota(rung, more_to_come=False)
    if place <= allowed and not final:
        return None
    if place <= allowed:
        places = "its place is taken" if allowed == 1 else f"the {allowed} places are taken"
    else:
        places = "only the best goes on" if allowed == 1 else f"the best {allowed} go on"
    so_far = _count(case.state.started, "trial")
    return (
        f"{PEERS}{_ordinal(place)} of {len(rung)} at epoch {_epochs(rung.epoch)}; {places}. "
        f"Compared by {_compared_by(case, rung)}; the study has {so_far} so far"
        f"{_misses_target(case)}"
    )


def _compared_by(case: DecisionInput, rung: Rung) -> str:
    """Return the names of the features by which the trial and its peers differ at a rung.

    A feature needs a weight, and a known value of this trial and of another one.
    """
    own = rung.features[int(np.searchsorted(rung.numbers, case.number))]
    shared = ~np.isnan(own) & ((~np.isnan(rung.features)).sum(axis=0) > 1)
    names = [
        case.config.metric_name if name == "metric" else name
        for name, weight, is_shared in zip(FEATURES, case.state.weights.used, shared, strict=True)
        if weight > 0 and is_shared
    ]
    if not names:
        return "no feature that all of them have"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _misses_target(case: DecisionInput) -> str:
    """Return a sentence on the hidden layer that will miss the target by most, else "".

    A layer counts if its whole 90 % interval lies below the target. The sentence is empty where
    rotation has not ranked this study's own trials, because it would explain nothing.
    """
    ahead, target = case.forecast, case.config.target
    if ahead is None or case.state.weights.rotation_is == "not informative":
        return ""
    missed = [index for index in target.hidden(ahead.layers) if ahead.high[index] < target.floor]
    if not missed:
        return ""
    least = min(missed, key=lambda index: ahead.mid[index])
    return (
        f". Layer {ahead.layers[least]} is forecast to end at {ahead.mid[least]:.2f} "
        f"(90 % interval {ahead.low[least]:.2f} to {ahead.high[least]:.2f}), below the target "
        f"{target.floor:.2f}"
    )


def _epochs(epochs: float) -> str:
    return f"{round(epochs, 2):g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ordinal(place: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{place}{'th' if place % 100 in (11, 12, 13) else endings.get(place % 10, 'th')}"


# The first rule that finds a reason prunes.
_GUARDS = (diverged, rotating_without_learning)


@dataclass(frozen=True)
class Verdict:
    """Whether to prune a trial, and why.

    Attributes:
        prune: whether the trial ends here.
        reason: sentences with the rule, the values it compared, its threshold and the epochs
            saved. The first names what decided, in 60 characters at most. Empty when the trial
            continues without one.
        forecast: the forecast at the time of the decision; None if there was none.
        pause: whether the trial pauses unless it is promoted at once; `prune` is then false.
        audit: whether the trial would be pruned for this reason, but is a control trial, which is
            trained to its end. `prune` is then false.

    Example:
        >>> verdict = Verdict(prune=True, reason="diverged: train loss inf at epoch 3")
        >>> verdict.prune, verdict.audit
        (True, False)
    """

    prune: bool
    reason: str
    forecast: Forecast | None = None
    pause: bool = False
    audit: bool = False


CONTINUES = Verdict(prune=False, reason="")


class Action(Enum):
    """The next step of a trial after a report.

    Example:
        >>> [action.value for action in Action]
        ['continue', 'pause', 'stop']
    """

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

    The function is pure: the same arguments give the same verdict. Missing evidence never prunes a
    trial: an empty curve, unknown rotation, no metric, no peers. At the last epoch no trial is
    pruned, because pruning then saves nothing.

    A share of the trials that would be pruned become control trials instead. The study's seed draws
    them. A diverged trial never becomes a control trial.

    Args:
        number: number of the trial in its study, >= 0.
        curve: all reports of the trial.
        state: the standing of all trials, this report included (`HalvingState.with_report`).
        may_pause: whether the trial can pause. At a rung it then pauses, and
            `HalvingState.next_promotable` chooses the trial that continues.
        final: whether the trial is paused at a rung and cannot continue. It is then pruned.
        exempt: whether the trial runs to its end unless it diverges or does not learn.

    Example:
        >>> state = HalvingState(PruningConfig(), max_epochs=20)
        >>> for number in range(20):
        ...     curve = RotationCurve(("conv",), 20).append(1, {"conv": 0.2}, metric=number / 20)
        ...     state = state.with_report(number, curve)
        >>> worst = RotationCurve(("conv",), 20).append(1, {"conv": 0.2}, metric=0.0)
        >>> verdict = decide(0, worst, state)
        >>> verdict.prune, verdict.reason.partition(";")[0]
        (True, 'peers: 20th of 20 at epoch 1')
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
    """Whether a trial that would be pruned becomes a control trial.

    Args:
        number: number of the trial, >= 0.
        config: the settings with the share of control trials and the seed of the draw.
    """
    return random.Random(f"{config.seed}:{number}").random() < config.audit


def _pruned(case: DecisionInput, reason: str, *, audited: bool) -> Verdict:
    curve = case.curve
    saved = f". Saves {_epochs(curve.max_epochs - case.epoch)} of {curve.max_epochs} epochs."
    verdict = Verdict(prune=True, reason=reason + saved, forecast=case.forecast)
    if audited and is_audited(case.number, case.config):
        return replace(verdict, prune=False, audit=True)
    return verdict
