"""LogWriter and the events that a logger process reads from its pipe, one line of JSON each."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.study.result import State


@dataclass(frozen=True)
class Event:
    """The start, a report or the end of a trial.

    Attributes:
        trial: the number of the trial.
        at: the time of the event, in seconds since 1970.
        params: at a start, the trial's parameters. A trial may start several times.
        epoch: at a report, the finished epochs; else None.
        numbers: at a report, its numbers by key.
        state: at an end, the state of the trial; else empty.
        reason: at an end, why the trial was pruned or failed.
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
        """Return the event of a trial that starts now."""
        return cls(trial, time.time(), params=params)

    @classmethod
    def report(cls, trial: int, epoch: float, numbers: Mapping[str, float]) -> Event:
        """Return the event of a trial that reports now.

        A log has only whole steps, so the exact epoch is one of the numbers. It is the last of
        them: a log that holds it holds the whole report.
        """
        kept = {key: value for key, value in numbers.items() if key not in ("epoch", "progress")}
        return cls(trial, time.time(), epoch=epoch, numbers={**kept, "epoch": epoch})

    @classmethod
    def end(cls, trial: int, state: State, reason: str) -> Event:
        """Return the event of a trial that ends now."""
        return cls(trial, time.time(), state=state, reason=reason)

    @property
    def step(self) -> int:
        """The step of a report in a log: the whole finished epochs."""
        return int(self.epoch or 0)


def to_line(event: Event) -> str:
    """Return an event as one line of JSON; a value without a JSON type is written as text."""
    return json.dumps(vars(event), default=str)


def from_line(line: str) -> Event:
    """Return the event of a line from `to_line`.

    Example:
        >>> from_line(to_line(Event(3, 0.0, epoch=1.5))).step
        1
    """
    return Event(**json.loads(line))


# Distinguishes the epochs of two reports, also in a log with 32-bit floats.
_DECIMALS = 4


@dataclass(frozen=True)
class Known:
    """The content of a log on one trial: its start, the epochs of its reports, its end."""

    begun: bool = False
    epochs: frozenset[float] = frozenset()
    ended: bool = False

    @classmethod
    def of(cls, epochs: Iterable[float], ended: bool) -> Known:
        """Return the content for a trial that has started."""
        return cls(True, frozenset(round(epoch, _DECIMALS) for epoch in epochs), ended)

    def lacks(self, event: Event) -> bool:
        """Whether an event is missing in the log. After a trial's end, no event is missing."""
        if self.ended:
            return False
        if event.epoch is not None:
            return round(event.epoch, _DECIMALS) not in self.epochs
        return bool(event.state) or not self.begun

    def plus(self, event: Event) -> Known:
        """Return the content with one more event."""
        epochs = () if event.epoch is None else (round(event.epoch, _DECIMALS),)
        return replace(self, begun=True, epochs=self.epochs.union(epochs), ended=bool(event.state))


class LogWriter(ABC):
    """Writes each event into a log once. It reads the log to find the missing events."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def write(self, events: Sequence[Event], lives: Callable[[], None] = lambda: None) -> None:
        """Add the events that are missing in the log.

        After an error, the same events may be passed again.

        Args:
            events: events of any trials, in order.
            lives: called after each trial, to show that writing continues.
        """
        for number in dict.fromkeys(event.trial for event in events):
            # Removed first: if `add` fails, the next call reads the content from the log.
            known = self._known.pop(number, None) or self.find(number)
            new = []
            for event in events:
                if event.trial == number and known.lacks(event):
                    new.append(event)
                    known = known.plus(event)
            if new:
                self.add(number, new)
            self._known[number] = known
            lives()

    @abstractmethod
    def find(self, number: int) -> Known:
        """Return the content of the log on a trial."""

    @abstractmethod
    def add(self, number: int, events: Sequence[Event]) -> None:
        """Append events of one trial, in order."""
