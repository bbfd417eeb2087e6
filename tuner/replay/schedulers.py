"""The schedulers that a replay compares: ours, successive halving, Optuna's pruners and others."""

from __future__ import annotations

import math
import random
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tuner.rotation import HalvingState, Mode, PruningConfig, RotationCurve, RotationTarget, decide
from tuner.study.pruners import make_pruner

NEW = -1


class Action(Enum):
    """What becomes of a trial after a report."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"


class Policy(ABC):
    """One repeat of one scheduler; made anew for every repeat, so that it may keep a state."""

    @abstractmethod
    def report(self, number: int, curve: RotationCurve) -> Action:
        """Say what becomes of a trial.

        Args:
            number: the trial.
            curve: the trial as far as it has been seen; its last report is the new one. The last
                of all comes here too, and what is said then changes nothing: the trial has ended.
        """

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        """Say what a free worker runs next.

        Args:
            paused: the trials that can go on, the one paused first in front.
            new: whether a trial is left that has not been started.

        Returns: one of `paused`; `NEW`, if `new`; or None to wait for the next report of another
            worker. None is not to change what the policy would answer to the next worker.
        """
        return NEW if new else None


class NeverStop(Policy):
    """Trains every trial to its end."""

    def report(self, number: int, curve: RotationCurve) -> Action:
        return Action.GO_ON


def is_whole(epoch: float) -> bool:
    """Whether a report comes at the end of an epoch, and so with the metric."""
    return float(epoch).is_integer()


def feature(metric: float, mode: Mode) -> float:
    """Return the metric so that more is better; NaN is the worst there is."""
    if math.isnan(metric):
        return -math.inf
    return metric if mode == "max" else -metric


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
        rung[number] = feature(curve.metric[-1], self._mode)
        return Action.PAUSE

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        for epoch, rung in self._rungs.items():
            best = sorted(rung, key=lambda number: -rung[number])[: len(rung) // self._eta]
            for number in best:
                if number not in self._promoted[epoch]:
                    self._promoted[epoch].add(number)
                    return number
        return NEW if new else None


class OneEpoch(Policy):
    """Trains every trial for one epoch and then only the best few, by their metric after it.

    The 1-Epoch baseline of arXiv:2307.15422. Nobody goes on before all have done their epoch. A
    NaN metric is the worst; of equals, those first paused go on.

    Args:
        mode: whether a lower or a higher metric is better.
        keep: how many go on to their end, >= 1.
    """

    def __init__(self, mode: Mode, *, keep: int) -> None:
        self._mode = mode
        self._keep = keep
        self._started = 0
        self._after_one: dict[int, float] = {}

    def report(self, number: int, curve: RotationCurve) -> Action:
        if curve.epochs[-1] != 1:
            return Action.GO_ON
        self._after_one[number] = feature(curve.metric[-1], self._mode)
        return Action.PAUSE

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        if new:
            self._started += 1
            return NEW
        if len(self._after_one) < self._started:
            return None
        best = sorted(self._after_one, key=lambda number: -self._after_one[number])
        return next((number for number in best[: self._keep] if number in paused), None)


def random_stop(max_epochs: int, *, eta: int, seed: int) -> Asha:
    """Return halving at the rungs of `Asha` by a random score, drawn anew at each rung.

    No source: it is the control of every comparison, since whatever is stopped at random saves
    epochs too.
    """
    draw = random.Random(seed)
    return Asha(max_epochs, lambda curve: draw.random(), eta=eta)


class OptunaPolicy(Policy):
    """Stops what an Optuna pruner prunes; ask, report, should_prune and tell are Optuna's own.

    Steps are whole epochs counted from 1; a report within an epoch is not shown to the pruner. A
    trial is numbered in the study by its first report. A trial that ends in NaN is told as failed,
    as in a run of a job.

    Args:
        pruner: a fresh one.
        mode: whether a lower or a higher metric is better.
        seed: names the study, from whose name HyperbandPruner draws the brackets.
    """

    def __init__(self, pruner: BasePruner, mode: Mode, *, seed: int) -> None:
        with _quiet():
            self._study = optuna.create_study(
                study_name=f"replay-{seed}",
                direction="minimize" if mode == "min" else "maximize",
                pruner=pruner,
                sampler=RandomSampler(seed),
            )
        self._trials: dict[int, optuna.Trial] = {}

    def report(self, number: int, curve: RotationCurve) -> Action:
        if number not in self._trials:
            self._trials[number] = self._study.ask()
        epoch, metric = curve.epochs[-1], curve.metric[-1]
        if not is_whole(epoch):
            return Action.GO_ON
        trial = self._trials[number]
        trial.report(metric, int(epoch))
        if epoch == curve.max_epochs:
            if math.isnan(metric):
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, metric)
            return Action.STOP
        with _quiet():
            prune = trial.should_prune()
        if not prune:
            return Action.GO_ON
        self._study.tell(trial, state=TrialState.PRUNED)
        return Action.STOP


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Optuna says of a study made, and of NaN among the metrics it compares."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            warnings.filterwarnings("ignore", ".*WilcoxonPruner", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


# Of the epochs of a whole run, the mode and a seed, which only some of them need.
PeerFactory = Callable[[int, Mode, int], Policy]


def _asha(eta: int, *, early: bool = False) -> PeerFactory:
    return lambda max_epochs, mode, seed: Asha(max_epochs, by_metric(mode), eta=eta, early=early)


def _optuna(name: str) -> PeerFactory:
    """A pruner with the settings that a job gives it under the same name."""
    return lambda max_epochs, mode, seed: OptunaPolicy(
        make_pruner(name, RotationTarget(), max_epochs), mode, seed=seed
    )


PEERS: dict[str, PeerFactory] = {
    "none": lambda max_epochs, mode, seed: NeverStop(),
    "asha-2": _asha(2),
    "asha-3": _asha(3),
    "asha-4": _asha(4),
    "asha-early": _asha(4, early=True),
    "asha-promote": lambda max_epochs, mode, seed: PromotingAsha(max_epochs, mode, eta=4),
    "hyperband": _optuna("hyperband"),
    "median": _optuna("median"),
    "percentile": _optuna("percentile"),
    "wilcoxon": _optuna("wilcoxon"),
    "one-epoch-1": lambda max_epochs, mode, seed: OneEpoch(mode, keep=1),
    "one-epoch-3": lambda max_epochs, mode, seed: OneEpoch(mode, keep=3),
    "random-stop": lambda max_epochs, mode, seed: random_stop(max_epochs, eta=4, seed=seed),
}


class RotationPolicy(Policy):
    """Judges every report by `decide`, and lets trials wait for their peers as a job does.

    Args:
        pausing: whether trials wait and go on later, as in a job; without, they are pruned where
            they would wait, as in plain Optuna.
        metric: whether the metric and the train loss are looked at; without, by rotation alone.
    """

    def __init__(
        self, max_epochs: int, criteria: PruningConfig, *, pausing: bool = True, metric: bool = True
    ) -> None:
        self.field = HalvingState(criteria, max_epochs)
        self._pausing = pausing
        self._metric = metric
        self._more_to_come = True
        self._curves: dict[int, RotationCurve] = {}
        self._paused: set[int] = set()
        self._audited: set[int] = set()

    def report(self, number: int, curve: RotationCurve) -> Action:
        if not self._metric:
            curve = _by_rotation_alone(curve)
        self.field = self.field.with_report(number, curve)
        self._curves[number] = curve
        may_wait = self._pausing and number not in self._audited
        verdict = decide(number, curve, self.field, may_wait=may_wait)
        if verdict.audit:
            self._audited.add(number)
        if verdict.wait and self._next_up((*self._paused, number)) != number:
            self._paused.add(number)
            return Action.PAUSE
        return Action.STOP if verdict.prune else Action.GO_ON

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        self._more_to_come = new
        chosen = self._next_up(paused)
        if chosen is None and not new:
            chosen = next((number for number in paused if self._is_audited(number)), None)
        if chosen is not None:
            self._paused.discard(chosen)
            return chosen
        return NEW if new else None

    def _next_up(self, waiting: Sequence[int]) -> int | None:
        return self.field.next_promotable(waiting, self._more_to_come)

    def _is_audited(self, number: int) -> bool:
        audit = decide(number, self._curves[number], self.field, final=True).audit
        if audit:
            self._audited.add(number)
        return audit


def _by_rotation_alone(curve: RotationCurve) -> RotationCurve:
    # Every metric the same: a metric that is missing would mean a report within an epoch.
    return replace(
        curve,
        metric=tuple(metric * 0 for metric in curve.metric),
        train_loss=tuple(float("nan") for _ in curve.train_loss),
    )
