"""decide: the one function that says whether a trial goes on, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.errors import InvalidInput
from tuner.rotation.curve import RotationCurve
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.peers import Mode, Peer
from tuner.rotation.rules import (
    Case,
    behind_peers,
    diverged,
    rotating_without_learning,
    target_out_of_reach,
)
from tuner.rotation.target import RotationTarget

__all__ = ["Peer", "Verdict", "decide"]

# In this order: the first that finds a reason gives it.
_RULES = (diverged, rotating_without_learning, target_out_of_reach, behind_peers)


@dataclass(frozen=True)
class Verdict:
    """Whether to prune, and why: one sentence, empty when the trial goes on.

    `forecast` is the forecast at the time of the decision, None where there was none.
    """

    prune: bool
    reason: str
    forecast: Forecast | None = None


def decide(
    curve: RotationCurve,
    target: RotationTarget,
    peers: Sequence[Peer] = (),
    *,
    metric_name: str = "metric",
    mode: Mode = "max",
    warmup_epochs: int = 1,
    eta: int = 4,
) -> Verdict:
    """Decide on a trial at its last report: prune it, with the reason, or let it go on.

    Pure: the same arguments give the same verdict. No evidence never prunes: an empty curve,
    unknown rotation, no metric, no peers. Nor does the last epoch, which has nothing to save.

    Args:
        curve: what the trial has reported.
        target: what its layers should reach.
        peers: other trials at this same epoch, pruned ones included.
        metric_name: what the reason calls the metric.
        mode: whether a larger ("max") or smaller ("min") metric is better.
        warmup_epochs: epochs before any rule but divergence speaks, >= 0; also the first rung
            (1 if 0). Rungs are at `warmup_epochs * eta^k` whole epochs.
        eta: the best 1/eta of the trials pass a rung, >= 2. 3 and 4 are usual.
            The worst 1/eta at any epoch are those that a missed target prunes.

    Raises:
        InvalidInput: `mode`, `warmup_epochs` or `eta` is outside its range.
    """
    _check(mode, warmup_epochs, eta)
    if not curve.epochs:
        return Verdict(prune=False, reason="")
    prediction = forecast(curve)
    if curve.progress >= 1:
        return Verdict(prune=False, reason="", forecast=prediction)
    case = Case(curve, target, peers, prediction, metric_name, mode, warmup_epochs, eta)
    for rule in _RULES:
        reason = rule(case)
        if reason is not None:
            saved = f"; saves {curve.max_epochs - case.epoch:g} of {curve.max_epochs} epochs"
            return Verdict(prune=True, reason=reason + saved, forecast=prediction)
    return Verdict(prune=False, reason="", forecast=prediction)


def _check(mode: str, warmup_epochs: int, eta: int) -> None:
    if mode not in ("min", "max"):
        raise InvalidInput(f"mode must be 'min' or 'max', got {mode!r}; use 'max' for accuracy")
    if warmup_epochs < 0:
        raise InvalidInput(
            f"warmup_epochs must be >= 0, got {warmup_epochs}; use 0 to prune from the first report"
        )
    if eta < 2:
        raise InvalidInput(f"eta must be >= 2, got {eta}; use 4 to keep a quarter at each rung")
