"""The schedulers that a replay compares: rotation, successive halving, Optuna's pruners, others."""

from __future__ import annotations

import math
import random
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tuner.rotation import Action, Mode, Promotion, PruningConfig, RotationCurve, RotationTarget
from tuner.study.pruners import make_pruner

NEW = -1


class Policy(ABC):
    """A scheduler for one repeat. It may have a state, since every repeat gets a new object."""

    @abstractmethod
    def report(self, number: int, curve: RotationCurve) -> Action:
        """Return the next step of a trial.

        Args:
            number: the number of the trial.
            curve: its reports so far; the last report is new. At the end of a run the returned
                action has no effect, because the trial has ended.
        """

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        """Choose the trial that a free worker runs next.

        Args:
            paused: the paused trials, in the order of their pause.
            new: whether a trial is left that has not been started.

        Returns: one of `paused`; `NEW`, if `new`; or None to wait for the next report of another
            worker. An answer of None must not change the policy's state.
        """
        return NEW if new else None


class NeverStop(Policy):
    """Trains every trial to its end."""

    def report(self, number: int, curve: RotationCurve) -> Action:
        return Action.CONTINUE


def is_whole(epoch: float) -> bool:
    """Whether a report comes at the end of an epoch, and so with the metric."""
    return float(epoch).is_integer()


def feature(metric: float, mode: Mode) -> float:
    """Return the metric so that more is better; NaN is the worst."""
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
    """The scores of the trials that have reached an epoch; more is better."""

    def __init__(self) -> None:
        self._trials: set[int] = set()
        self._scores: list[float] = []

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def admit(self, number: int, score: float, eta: int) -> bool:
        """Record a trial; return whether it is among the best 1/eta of the earlier trials here.

        A trial with a NaN score continues, and later trials are not compared with it.
        """
        # Ray makes the same call, so the interpolation agrees to the last bit. Between an infinite
        # score and a finite one it gives NaN, and a NaN cutoff stops no trial.
        with np.errstate(invalid="ignore"):
            stops = bool(self._scores) and score < np.percentile(self._scores, (1 - 1 / eta) * 100)
        self._trials.add(number)
        if not math.isnan(score):
            self._scores.append(score)
        return not stops


class Asha(Policy):
    """Stops a trial that is not among the best 1/eta of the earlier trials at a rung.

    It decides as Ray's AsyncHyperBandScheduler of ray 2.60 with one bracket and grace_period=1,
    with the same quirks: a trial with a NaN metric is never stopped, and a report counts for the
    highest rung at or below it that the trial has not reached before.

    Args:
        max_epochs: the epochs of a whole run.
        score: the score of a trial at a whole epoch; more is better.
        eta: of the trials that reach a rung, the best 1/eta continue, >= 2.
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
            return Action.CONTINUE
        if not is_whole(epoch):
            continues = self._at_early_rung(number, curve)
        else:
            continues = self._at_rung(number, curve)
        return Action.CONTINUE if continues else Action.STOP

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
    """Return a score that is the metric, with its sign turned if less is better; NaN stays."""
    sign = 1.0 if mode == "max" else -1.0
    return lambda curve: sign * curve.metric[-1]


class PromotingAsha(Policy):
    """Pauses every trial at every rung and promotes those in the best 1/eta of a rung.

    Asynchronous successive halving as in Algorithm 2 of Li et al., arXiv:1810.05934, with r = 1
    and s = 0. Its last rung, floor(log_eta(max_epochs)), is the whole run. If it can promote no
    trial, it starts a new one. If no new trial is left either, it waits for the running trials and
    then ends. A NaN metric is the worst.

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
            return Action.CONTINUE
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

    This is the 1-Epoch baseline of arXiv:2307.15422. No trial continues before all have trained
    their epoch. A NaN metric is the worst. Of equal trials, those that paused first continue.

    Args:
        mode: whether a lower or a higher metric is better.
        keep: how many trials continue to their end, >= 1.
    """

    def __init__(self, mode: Mode, *, keep: int) -> None:
        self._mode = mode
        self._keep = keep
        self._started = 0
        self._after_one: dict[int, float] = {}

    def report(self, number: int, curve: RotationCurve) -> Action:
        if curve.epochs[-1] != 1:
            return Action.CONTINUE
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

    This is the control of every comparison, because stopping trials at random also saves epochs. It
    is not from a paper.
    """
    draw = random.Random(seed)
    return Asha(max_epochs, lambda curve: draw.random(), eta=eta)


class OptunaPolicy(Policy):
    """Stops the trials that an Optuna pruner prunes.

    It uses Optuna's own ask, report, should_prune and tell. Steps are whole epochs, counted from 1.
    The pruner does not get reports within an epoch. A trial gets its number in the study at its
    first report. A trial that ends in NaN fails, as in a job.

    Args:
        pruner: a new pruner.
        mode: whether a lower or a higher metric is better.
        seed: part of the study's name, from which HyperbandPruner draws the brackets.
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
            return Action.CONTINUE
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
            return Action.CONTINUE
        self._study.tell(trial, state=TrialState.PRUNED)
        return Action.STOP


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's messages about new studies, and its warnings about NaN metrics."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            warnings.filterwarnings("ignore", ".*WilcoxonPruner", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


# Makes a policy from the epochs of a whole run, the mode and a seed.
PeerFactory = Callable[[int, Mode, int], Policy]


def _asha(eta: int, *, early: bool = False) -> PeerFactory:
    return lambda max_epochs, mode, seed: Asha(max_epochs, by_metric(mode), eta=eta, early=early)


def _optuna(name: str) -> PeerFactory:
    """Return a factory of the pruner that a job gets under the same name."""
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
    """Decides every report by `Promotion`, as a job does.

    Args:
        max_epochs: the epochs of a whole run.
        config: the settings of the comparison.
        pausing: whether trials pause and continue later, as in a job. If not, they are pruned where
            they would pause, as in plain Optuna.
        metric: whether the metric and the train loss count. If not, trials rank by rotation alone.

    Attributes:
        promotion: the trials so far.
    """

    def __init__(
        self, max_epochs: int, config: PruningConfig, *, pausing: bool = True, metric: bool = True
    ) -> None:
        self.promotion = Promotion(config, max_epochs, may_pause=pausing)
        self._metric = metric
        self._more_to_come = True

    def report(self, number: int, curve: RotationCurve) -> Action:
        if not self._metric:
            curve = _by_rotation_alone(curve)
        decision = self.promotion.report(number, curve, more_to_come=self._more_to_come)
        if decision.action is Action.PAUSE:  # a replayed trial needs no checkpoint
            self.promotion.pause(number)
        return decision.action

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        self._more_to_come = new
        promoted = self.promotion.pop_promotable(new)
        if promoted is not None:
            return promoted.number
        return NEW if new else None


def _by_rotation_alone(curve: RotationCurve) -> RotationCurve:
    # All metrics are equal. A missing metric would mean a report within an epoch.
    return replace(
        curve,
        metric=tuple(metric * 0 for metric in curve.metric),
        train_loss=(math.nan,) * len(curve),
    )
