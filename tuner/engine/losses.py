"""Trials whose process is gone: those whose node went are run again, the others have failed."""

from __future__ import annotations

import time
from collections import Counter

from tuner.engine.bridge import StudyBridge
from tuner.engine.deaths import Death, death_of, is_alive

# A node that shuts down ends its processes some seconds before it takes its leave.
_GRACE_S = 5.0
# Past this it is more likely the trial that brings its nodes down.
_MOST_NODES_LOST = 10


class Losses:
    """Decides for each trial that crashed whether it failed, or goes on from its checkpoint.

    A process that died by itself is in doubt for `_GRACE_S`: if its node is gone by then, the node
    took it along.

    Args:
        bridge: the study.
    """

    def __init__(self, bridge: StudyBridge) -> None:
        self._bridge = bridge
        self._nodes_lost: Counter[int] = Counter()
        self._in_doubt: dict[int, tuple[float, Death]] = {}

    def __bool__(self) -> bool:
        """Whether any trial is in doubt."""
        return bool(self._in_doubt)

    def crashed(self, number: int, error: BaseException | None) -> None:
        """Take note of what ended a trial."""
        death = death_of(error)
        if death.fault == "trial":
            self._bridge.fail(number, error)
        elif death.fault == "memory":
            self._bridge.fail_with(number, death.why)
        elif death.fault == "node":
            self._lost(number, death.why)
        else:
            self._in_doubt[number] = (time.monotonic() + _GRACE_S, death)

    def settle(self) -> None:
        """Decide on the trials in doubt whose node is gone, or has lived long enough."""
        for number, (until, death) in list(self._in_doubt.items()):
            if death.node and not is_alive(death.node):
                self._lost(number, "its node shut down")
            elif time.monotonic() >= until:
                self._bridge.fail_with(number, death.why)
            else:
                continue
            del self._in_doubt[number]

    def _lost(self, number: int, why: str) -> None:
        self._nodes_lost[number] += 1
        if self._nodes_lost[number] > _MOST_NODES_LOST:
            self._bridge.fail_with(
                number,
                f"{self._nodes_lost[number]} nodes went while it ran, the last time {why}; find "
                "out whether it is the trial that brings them down",
            )
        else:
            self._bridge.interrupt(number, why)
