"""RunCallback: the hooks that are called while a study runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

import optuna

from tuner.rotation import EpochReport
from tuner.study.result import State, StudyResult

Args = ParamSpec("Args")


class RunCallback:
    """Receives every start, report and end, in order; this base class does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The run is over."""

    def opened(self, study: optuna.Study, folder: Path | None) -> None:
        """The study is open; it may be read at any time, from any thread.

        Args:
            study: the study.
            folder: the folder of the study, or None.
        """

    def begun(self, so_far: StudyResult) -> None:
        """The trials begin to run; `so_far` may hold trials of an earlier run."""

    def noted(self, line: str) -> None:
        """There is a line that the user of the study should read."""

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial was suggested and will run as soon as it fits on the cluster."""

    def reported(self, number: int, report: EpochReport) -> None:
        """A trial reported."""

    def paused(self, number: int, epochs: float) -> None:
        """A trial paused at a checkpoint, or was interrupted."""

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        """A trial ended; `value` is its last metric, NaN if it never reported one."""


def _to_each(
    hook: Callable[Concatenate[RunCallback, Args], None],
) -> Callable[Concatenate[RunCallbacks, Args], None]:
    """Return a method that calls this hook of each callback, in order."""

    def call(self: RunCallbacks, /, *args: Args.args, **kwargs: Args.kwargs) -> None:
        for observer in self._several:
            getattr(observer, hook.__name__)(*args, **kwargs)

    return call


class RunCallbacks(RunCallback):
    """Calls the hooks of several callbacks, in this order."""

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

    opened = _to_each(RunCallback.opened)
    begun = _to_each(RunCallback.begun)
    noted = _to_each(RunCallback.noted)
    started = _to_each(RunCallback.started)
    reported = _to_each(RunCallback.reported)
    paused = _to_each(RunCallback.paused)
    finished = _to_each(RunCallback.finished)
