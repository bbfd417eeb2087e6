"""Asynchronous successive halving: stopping as Ray does, and promoting as in the paper."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np

from tuner.replay.policy import NEW, Action, Policy, is_whole, merit
from tuner.rotation import Mode, RotationCurve

# Share of the first epoch after which `Asha(early=True)` compares the training losses.
_EARLY = 0.25

Score = Callable[[RotationCurve], float]


def milestones(max_epochs: int, eta: int) -> list[int]:
    """Return the epochs of the rungs, 1, eta, eta^2, ... below `max_epochs`, in rising order."""
    epochs = []
    epoch = 1
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= eta
    return epochs


class Rung:
    """The scores of the trials that have been here; more is better."""

    def __init__(self) -> None:
        self._trials: set[int] = set()
        self._scores: list[float] = []

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def admit(self, number: int, score: float, eta: int) -> bool:
        """Record a trial; return whether it is among the best 1/eta of those here before it.

        A NaN is in no comparison: it goes on, and the others do not see it.
        """
        # Ray's own call, so that its interpolation and ours agree to the last bit. Between an
        # infinite score and a finite one it gives NaN, and a NaN cutoff stops nobody.
        with np.errstate(invalid="ignore"):
            stops = bool(self._scores) and score < np.percentile(self._scores, (1 - 1 / eta) * 100)
        self._trials.add(number)
        if not math.isnan(score):
            self._scores.append(score)
        return not stops


class Asha(Policy):
    """Stops a trial that on reaching a rung is not among the best 1/eta of those there before it.

    Decides as Ray's AsyncHyperBandScheduler of ray 2.60 with one bracket and grace_period=1, down
    to its quirks: a NaN metric is never stopped, and a report counts for the highest rung at or
    below it that the trial has not been at.

    Args:
        max_epochs: the epochs of a whole run.
        score: what a trial is judged by at a whole epoch; more is better.
        eta: of the trials that reach a rung, the best 1/eta go on, >= 2.
        early: one more rung, at the first report within the first epoch that is at or after a
            quarter of it, by training loss; there an infinite or unknown loss is the worst.
    """

    def __init__(self, max_epochs: int, score: Score, *, eta: int, early: bool = False) -> None:
        self._score = score
        self._eta = eta
        self._early = Rung() if early else None
        self._rungs = [(epoch, Rung()) for epoch in reversed(milestones(max_epochs, eta))]

    def report(self, number: int, curve: RotationCurve) -> Action:
        epoch = curve.epochs[-1]
        if epoch >= curve.max_epochs:
            return Action.GO_ON
        if not is_whole(epoch):
            goes_on = self._at_early_rung(number, curve)
        else:
            goes_on = self._at_rung(number, curve)
        return Action.GO_ON if goes_on else Action.STOP

    def _at_rung(self, number: int, curve: RotationCurve) -> bool:
        for milestone, rung in self._rungs:
            if curve.epochs[-1] >= milestone and number not in rung:
                return rung.admit(number, self._score(curve), self._eta)
        return True

    def _at_early_rung(self, number: int, curve: RotationCurve) -> bool:
        rung, epoch = self._early, curve.epochs[-1]
        if rung is None or number in rung or not _EARLY <= epoch < 1:
            return True
        loss = curve.train_loss[-1]
        # Finite, because a cutoff between an infinite score and another would be NaN.
        score = -loss if math.isfinite(loss) else -sys.float_info.max
        return rung.admit(number, score, self._eta)


def by_metric(mode: Mode) -> Score:
    """Return the score that is the metric, with its sign turned if less is better; NaN stays."""
    sign = 1.0 if mode == "max" else -1.0
    return lambda curve: sign * curve.metric[-1]


class PromotingAsha(Policy):
    """Pauses every trial at every rung and promotes those in the best 1/eta of a rung.

    Asynchronous successive halving as in Algorithm 2 of Li et al., arXiv:1810.05934, with r = 1
    and s = 0. Its last rung, floor(log_eta(max_epochs)), is the whole run. With nothing to promote
    it starts a new trial; with no new trial left either, it waits for the others and then ends.
    A NaN metric is the worst.

    Args:
        max_epochs: the epochs of a whole run.
        mode: whether a lower or a higher metric is better.
        eta: of the trials in a rung, the best 1/eta are promoted, >= 2.
    """

    def __init__(self, max_epochs: int, mode: Mode, *, eta: int) -> None:
        self._mode = mode
        self._eta = eta
        self._rungs: dict[int, dict[int, float]] = {
            epoch: {}
            for epoch in reversed(milestones(max_epochs, eta))
            if epoch * eta <= max_epochs
        }
        self._promoted: dict[int, set[int]] = {epoch: set() for epoch in self._rungs}

    def report(self, number: int, curve: RotationCurve) -> Action:
        rung = self._rungs.get(int(curve.epochs[-1])) if is_whole(curve.epochs[-1]) else None
        if rung is None:
            return Action.GO_ON
        rung[number] = merit(curve.metric[-1], self._mode)
        return Action.PAUSE

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        for epoch, rung in self._rungs.items():
            best = sorted(rung, key=lambda number: -rung[number])[: len(rung) // self._eta]
            for number in best:
                if number not in self._promoted[epoch]:
                    self._promoted[epoch].add(number)
                    return number
        return NEW if new else None
