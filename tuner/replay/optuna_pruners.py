"""OptunaPolicy: any Optuna pruner, asked through a real study in memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tuner.replay.policy import Action, Policy, is_whole
from tuner.rotation import Mode, RotationCurve


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
