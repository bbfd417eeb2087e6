"""Policy: what a scheduler decides, as the simulator asks it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum

from tuner.rotation import Mode, RotationCurve

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


def merit(metric: float, mode: Mode) -> float:
    """Return the metric so that more is better; NaN is the worst there is."""
    if math.isnan(metric):
        return -math.inf
    return metric if mode == "max" else -metric
