"""RunCallback: the hooks that are called while a study runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

from tuner.rotation import EpochReport
from tuner.study.result import State, StudyResult

Told = ParamSpec("Told")


class RunCallback:
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

    def reported(self, number: int, report: EpochReport) -> None:
        """A trial reported."""

    def paused(self, number: int, epochs: float) -> None:
        """A trial waits at a checkpoint until more of its peers are known."""

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        """A trial ended; `value` is its last metric, NaN if it never reported one."""


def _to_each(
    told: Callable[Concatenate[RunCallback, Told], None],
) -> Callable[Concatenate[RunCallbacks, Told], None]:
    """Return a method of several observers that tells each of them the same, in order."""

    def tell(self: RunCallbacks, /, *args: Told.args, **kwargs: Told.kwargs) -> None:
        for observer in self._several:
            getattr(observer, told.__name__)(*args, **kwargs)

    return tell


class RunCallbacks(RunCallback):
    """Several, each told of everything in this order."""

    def __init__(self, *several: RunCallback) -> None:
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

    begun = _to_each(RunCallback.begun)
    noted = _to_each(RunCallback.noted)
    started = _to_each(RunCallback.started)
    reported = _to_each(RunCallback.reported)
    paused = _to_each(RunCallback.paused)
    finished = _to_each(RunCallback.finished)
