"""The rules that end a trial early, each a function from the case to a reason or None."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.rotation.curve import RotationCurve
from tuner.rotation.forecast import Forecast
from tuner.rotation.peers import Mode, Peer, standing, worst_share
from tuner.rotation.target import RotationTarget

# High rates, and none of the usual warmup, can turn layers to 1 without learning anything
# (arXiv:1806.01603). Of 106 recorded 20-epoch runs this catches 4, all in the worst fifth of their
# family by final accuracy [measured].
_TURNED = 0.5
_EPOCHS_TO_LEARN = 2
# The worst quarter of fewer is nobody.
_PEERS_TO_LAG = 4
# Epochs reported as sums of fractions (ten times 0.1) are whole up to this.
_EPOCH_ROUNDING = 1e-6


@dataclass(frozen=True)
class Case:
    """What the rules look at: one trial at its last report, which must exist."""

    curve: RotationCurve
    target: RotationTarget
    peers: Sequence[Peer]
    forecast: Forecast | None
    metric_name: str
    mode: Mode
    warmup_epochs: int
    eta: int

    @property
    def epoch(self) -> float:
        """Epochs finished, rounded to a whole number where it is one but for rounding."""
        epoch = self.curve.epochs[-1]
        return float(round(epoch)) if abs(epoch - round(epoch)) < _EPOCH_ROUNDING else epoch

    @property
    def metric(self) -> float:
        return self.curve.metric[-1]

    @property
    def reached(self) -> float:
        """What the hidden layers have reached; NaN if unknown."""
        return self.target.reached(self.curve.distances[-1], self.curve.layers)


def diverged(case: Case) -> str | None:
    """Prune when the train loss is no longer finite.

    NaN stands for an unknown loss too, so it counts only once a loss has been reported.
    """
    *earlier, last = case.curve.train_loss
    known_before = any(not math.isnan(loss) for loss in earlier)
    if math.isinf(last) or (math.isnan(last) and known_before):
        return f"diverged: the train loss is {last:g} after epoch {case.epoch:g}"
    return None


def rotating_without_learning(case: Case) -> str | None:
    """Prune when the layers have turned far and the train loss is where it started, or above."""
    losses = [loss for loss in case.curve.train_loss if not math.isnan(loss)]
    warm = case.epoch >= max(case.warmup_epochs, _EPOCHS_TO_LEARN)
    if not warm or len(losses) < 2 or not case.reached > _TURNED or losses[-1] < losses[0]:
        return None
    return (
        f"rotating without learning: the hidden layers have turned by {case.reached:.2f}, over "
        f"{_TURNED:g}, and the train loss went from {losses[0]:.4g} to {losses[-1]:.4g} by epoch "
        f"{case.epoch:g}{_furthest_behind(case)}"
    )


def target_out_of_reach(case: Case) -> str | None:
    """Prune when even the upper end of the forecast misses the target and the metric lags too.

    The metric has its say because good runs can end far below a quarter turn, with SGD at a small
    budget above all: rotation is a strong prior and not a verdict. Pruning the worse half instead
    of the worst 1/eta lost more than it saved (docs/log.md, 2026-11-23).
    """
    if case.forecast is None or case.epoch < case.warmup_epochs or math.isnan(case.metric):
        return None
    best_hope = case.target.reached(case.forecast.high, case.curve.layers)
    if not best_hope < case.target.floor:
        return None
    lagging, peers = worst_share(case.peers, case.mode, 1 / case.eta)
    behind = case.metric < lagging if case.mode == "max" else case.metric > lagging
    if peers < _PEERS_TO_LAG or not behind:
        return None
    return (
        f"target out of reach: the hidden layers are forecast to end at {best_hope:.2f} at the "
        f"most, below {case.target.floor:.2f}, and {case.metric_name} {case.metric:.4g} is in the "
        f"worst 1/{case.eta} of {peers} trials at epoch {case.epoch:g}, behind {lagging:.4g}"
        f"{_furthest_behind(case)}"
    )


def behind_peers(case: Case) -> str | None:
    """Prune at a rung unless the trial is in the best 1/eta of those that have been there.

    Asynchronous successive halving (Li et al., arXiv:1810.05934), by metric and rotation.
    """
    if math.isnan(case.metric) or not _is_rung(case.epoch, case.warmup_epochs, case.eta):
        return None
    trial = Peer(case.metric, case.reached)
    rank = standing(trial, case.peers, case.mode, case.target.distance)
    kept = math.ceil(rank.trials / case.eta)
    if rank.trials < case.eta or rank.place <= kept:
        return None
    by = f"{case.metric_name} and rotation" if rank.by_rotation else case.metric_name
    return (
        f"peers: place {rank.place} of {rank.trials} by {by} at epoch {case.epoch:g} "
        f"({case.metric_name} {case.metric:.4g}), where the best {kept} go on"
        f"{_furthest_behind(case)}"
    )


def _is_rung(epoch: float, warmup_epochs: int, eta: int) -> bool:
    rung = max(warmup_epochs, 1)
    while rung < epoch:
        rung *= eta
    return rung == epoch


def _furthest_behind(case: Case) -> str:
    """Return a clause on the hidden layer forecast to turn least; empty without a forecast."""
    if case.forecast is None:
        return ""
    forecast = case.forecast
    hidden = [
        index
        for index in case.target.hidden(forecast.layers)
        if not math.isnan(forecast.mid[index])
    ]
    if not hidden:
        return ""
    least = min(hidden, key=lambda index: forecast.mid[index])
    return (
        f"; furthest behind is {forecast.layers[least]}, forecast to end at "
        f"{forecast.mid[least]:.2f} (90 % interval {forecast.low[least]:.2f} to "
        f"{forecast.high[least]:.2f}) against {case.target.floor:.2f}"
    )
