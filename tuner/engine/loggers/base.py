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


# Tells the epochs of two reports apart, in what a log keeps as 32-bit floats too.
_DECIMALS = 4


@dataclass(frozen=True)
class Known:
    """What a log holds of a trial: its start, the epochs of its reports, its end."""

    begun: bool = False
    epochs: frozenset[float] = frozenset()
    ended: bool = False

    @classmethod
    def of(cls, epochs: Iterable[float], ended: bool) -> Known:
        """Return what is known of a trial that has been begun."""
        return cls(True, frozenset(round(epoch, _DECIMALS) for epoch in epochs), ended)

    def lacks(self, event: Event) -> bool:
        """Whether an event is not in the log; the end is written last, so nothing is after it."""
        if self.ended:
            return False
        if event.epoch is not None:
            return round(event.epoch, _DECIMALS) not in self.epochs
        return bool(event.state) or not self.begun

    def plus(self, event: Event) -> Known:
        epochs = () if event.epoch is None else (round(event.epoch, _DECIMALS),)
        return replace(self, begun=True, epochs=self.epochs.union(epochs), ended=bool(event.state))


class LogWriter(ABC):
    """Writes events into a log, each once: what the log has of a trial is asked of the log."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def write(self, events: Sequence[Event], lives: Callable[[], None] = lambda: None) -> None:
        """Add those events that the log lacks; call `lives` after each trial.

        After an error, all may be handed over again.
        """
        for number in dict.fromkeys(event.trial for event in events):
            # Forgotten meanwhile: when adding fails, the log is asked what it got.
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
        """Return what the log holds of a trial."""

    @abstractmethod
    def add(self, number: int, events: Sequence[Event]) -> None:
        """Append events of one trial, in their order."""
