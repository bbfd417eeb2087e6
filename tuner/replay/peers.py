"""The schedulers that every comparison includes, by name."""

from __future__ import annotations

from collections.abc import Callable

from tuner.replay.halving import Asha, PromotingAsha, by_metric
from tuner.replay.one_epoch import OneEpoch
from tuner.replay.optuna_pruners import OptunaPolicy
from tuner.replay.policy import NeverStop, Policy
from tuner.replay.random_stop import random_stop
from tuner.rotation import Mode, RotationTarget
from tuner.study.pruners import make_pruner

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
