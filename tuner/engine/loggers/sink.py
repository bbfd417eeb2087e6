"""A log that is written trial by trial, and knows what it holds already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tuner.engine.loggers.event import Event

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


class Sink(ABC):
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
