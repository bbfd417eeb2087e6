"""Made-up trials to be judged, and the states they are judged in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tuner.rotation import HalvingState, PruningConfig, RotationCurve, Verdict, decide
from tuner.rotation.halving import Weights

NAN, INF = math.nan, math.inf
LAYERS = ("stem", "slow", "fast", "head")
OWN = 0  # the number of the trial to be judged


def config_of(**given_: object) -> PruningConfig:
    return PruningConfig(
        **{"warmup_epochs": 1, "early_keep": 0.5, "keep": 0.25, "audit": 0} | given_
    )


def curve_of(
    rotation: float | Sequence[float] = 0.05,
    *,
    epochs: int = 2,
    metric: float = 0.5,
    losses: Sequence[float] | None = None,
    max_epochs: int = 20,
) -> RotationCurve:
    """Return a curve whose hidden layers turn by `rotation` each epoch, up to 1 and on a clock."""
    curve = RotationCurve(LAYERS, max_epochs)
    for epoch in range(1, epochs + 1):
        turned = min(rotation * epoch, 1.0) if isinstance(rotation, float) else rotation[epoch - 1]
        curve = curve.append(
            epoch,
            {"stem": turned / 2, "slow": turned, "fast": turned, "head": turned / 2},
            lr_progress=epoch / max_epochs,
            train_loss=1 / epoch if losses is None else losses[epoch - 1],
            metric=metric,
        )
    return curve


def by_metric(metric: float, epochs: int = 1) -> RotationCurve:
    """Return a curve of which only the metric is known."""
    curve = RotationCurve((), 20)
    for epoch in range(1, epochs + 1):
        curve = curve.append(epoch, {}, metric=metric)
    return curve


def state_of(
    curve: RotationCurve, peers: Sequence[RotationCurve] = (), **given_: object
) -> HalvingState:
    """Return a state of the trial to be judged and its peers, numbered from 1."""
    curves = {OWN: curve, **dict(enumerate(peers, 1))}
    return HalvingState(config_of(**given_), curve.max_epochs).with_curves(curves)


def judged(curve: RotationCurve, peers: Sequence[RotationCurve] = (), **given_: object) -> Verdict:
    return decide(OWN, curve, state_of(curve, peers, **given_))


def learnt(
    state: HalvingState, weights: Sequence[float], deviation: float = 0.05, trials: int = 100
) -> HalvingState:
    """Return the state as if its trials had taught these weights."""
    taught = Weights(np.array(weights, dtype=float), np.full(len(weights), deviation), trials)
    rungs = tuple(rung.scored(taught.used) for rung in state.rungs)
    return dataclasses.replace(state, rungs=rungs, weights=taught)


def informative(state: HalvingState, rotation: float = 1.0) -> HalvingState:
    """Return the state as if the metric and rotation had been found to rank its trials."""
    return learnt(state, (1.0, 0.0, rotation, 0.0))


def rule_of(verdict: Verdict) -> str:
    return verdict.reason.split(":")[0]


BETTER = [curve_of(0.15, epochs=9, metric=0.9)] * 9
HOPELESS = curve_of(0.01, epochs=4, metric=0.5)  # to reach the target, at a rung


def peers_of(*metrics: float) -> list[RotationCurve]:
    return [curve_of(0.01, epochs=4, metric=metric) for metric in metrics]
