"""OneEpoch: train everything for one epoch, then only the best to their end."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.replay.policy import NEW, Action, Policy, merit
from tuner.rotation import Mode, RotationCurve


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
        self._after_one[number] = merit(curve.metric[-1], self._mode)
        return Action.PAUSE

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        if new:
            self._started += 1
            return NEW
        if len(self._after_one) < self._started:
            return None
        best = sorted(self._after_one, key=lambda number: -self._after_one[number])
        return next((number for number in best[: self._keep] if number in paused), None)
