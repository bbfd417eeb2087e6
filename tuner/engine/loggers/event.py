"""What a logger is told, as values that pass through a pipe: one line of JSON each."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a logger's process has no use for the torch that it imports
    from tuner.study.result import State


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial.

    Attributes:
        trial: its number.
        at: when, in seconds since 1970.
        params: what it tries, if it started; a trial may start several times.
        epoch: of a report, the epochs finished; None of anything else.
        numbers: of a report, by key.
        state: how it ended; empty while it has not.
        reason: why it was pruned or failed.
    """

    trial: int
    at: float
    params: Mapping[str, Any] = field(default_factory=dict)
    epoch: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    state: State | str = ""
    reason: str = ""

    @classmethod
    def start(cls, trial: int, params: Mapping[str, Any]) -> Event:
        """Return that a trial starts, now."""
        return cls(trial, time.time(), params=params)

    @classmethod
    def report(cls, trial: int, epoch: float, numbers: Mapping[str, float]) -> Event:
        """Return that a trial reports, now.

        Steps are whole; the exact epoch is a number like others, and last: it marks the report
        whole.
        """
        kept = {key: value for key, value in numbers.items() if key not in ("epoch", "progress")}
        return cls(trial, time.time(), epoch=epoch, numbers={**kept, "epoch": epoch})

    @classmethod
    def end(cls, trial: int, state: State, reason: str) -> Event:
        """Return that a trial ends, now."""
        return cls(trial, time.time(), state=state, reason=reason)

    @property
    def step(self) -> int:
        """The whole epochs finished, which is where a report stands in a log."""
        return int(self.epoch or 0)


def to_line(event: Event) -> str:
    """Return an event as one line; a parameter that JSON does not know goes as its text."""
    return json.dumps(vars(event), default=str)


def from_line(line: str) -> Event:
    return Event(**json.loads(line))
