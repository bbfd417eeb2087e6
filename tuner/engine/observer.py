"""Whoever watches a study while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from tuner.study.result import State, StudyResult, TrialResult


class Observer:
    """Is told of every start, report and end, in the order they happen; this one stays silent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The run is over."""

    def begun(self, so_far: StudyResult) -> None:
        """The study is open; it may hold trials from before."""

    def noted(self, line: str) -> None:
        """There is something that the person who runs the study may want to change."""

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial was suggested and will run as soon as there is room."""

    def reported(self, number: int, epoch: float, result: Mapping[str, Any]) -> None:
        """A trial reported; `epoch` counts the epochs it has finished."""

    def paused(self, number: int, epochs: float) -> None:
        """A trial waits at a checkpoint until more of its peers are known."""

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        """A trial ended; `value` is its last metric, NaN if it never reported one."""

    def ended_elsewhere(self, trial: TrialResult) -> None:
        """A trial that another process runs has ended."""


class Observers(Observer):
    """Several, each told of everything in this order."""

    def __init__(self, *several: Observer) -> None:
        self._several = several
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for observer in self._several:
                opening.enter_context(observer)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def begun(self, so_far: StudyResult) -> None:
        for observer in self._several:
            observer.begun(so_far)

    def noted(self, line: str) -> None:
        for observer in self._several:
            observer.noted(line)

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        for observer in self._several:
            observer.started(number, params)

    def reported(self, number: int, epoch: float, result: Mapping[str, Any]) -> None:
        for observer in self._several:
            observer.reported(number, epoch, result)

    def paused(self, number: int, epochs: float) -> None:
        for observer in self._several:
            observer.paused(number, epochs)

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        for observer in self._several:
            observer.finished(number, state, value, epochs, reason)

    def ended_elsewhere(self, trial: TrialResult) -> None:
        for observer in self._several:
            observer.ended_elsewhere(trial)
