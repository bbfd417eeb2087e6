"""LoggerCallback: sends every event of a run to a logger's process."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna

from tuner.engine.callbacks import RunCallback
from tuner.engine.loggers.base import Event, to_line
from tuner.engine.loggers.registry import how_to_look
from tuner.rotation import EpochReport
from tuner.storage.batch_writer import BatchWriter
from tuner.study.load import LOG_ID
from tuner.study.result import State, StudyResult, TrialResult

# At the end of the study, the run waits while the logger still writes trials. After this long
# without a written trial it stops waiting: the server does not answer.
_SILENT_FOR_S = 60.0
_POLL_S = 0.5
_ROOT = str(Path(__file__).parents[3])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from tuner.engine.loggers.process import main; main()"
)


class LoggerCallback(RunCallback):
    """Starts a process that writes a log, and waits for it only at the end of the run.

    Args:
        name: the name of the logger.
        study: the name of the study.
        study_id: the id of the study; other studies of this name have other ids.
        folder: the folder of the study.
        say: called with lines about the place of the log and about faults.
    """

    def __init__(
        self, name: str, study: str, study_id: str, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._study = study
        self._folder = folder
        self._command = [sys.executable, "-c", _PROGRAM, _ROOT, name, study, study_id, str(folder)]
        self._say = say
        self._said: deque[str] = deque()
        self._lived_at = 0.0
        self._over = False

    def __enter__(self) -> Self:
        # A new session: Ctrl-C must end only the study, because the process then writes the rest.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._writer = BatchWriter(self._send)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        try:
            with contextlib.suppress(OSError):  # the process has ended; `_wait` says so
                self._writer.close()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            self._wait()
        finally:
            process.kill()
            process.wait()
            self._listener.join()
            process.stdout.close()  # type: ignore[union-attr]
        self._hand_on()

    def begun(self, so_far: StudyResult) -> None:
        self._say(f"logging to {self._name}; to see it: {how_to_look(self._name, self._folder)}")
        for trial in so_far.trials:
            self._put(*events_of(trial, so_far.metric))

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        self._put(Event.start(number, params))

    def reported(self, number: int, report: EpochReport) -> None:
        self._put(Event.report(number, report.epoch, report.numbers))

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        self._put(Event.end(number, state, reason))

    def _put(self, *events: Event) -> None:
        self._hand_on()
        if self._over:
            return
        try:
            self._writer.put(list(events))
        except OSError:  # the process has ended; `__exit__` says so
            self._over = True

    def _send(self, events: list[Event]) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write("".join(f"{to_line(event)}\n" for event in events))
        pipe.flush()

    def _listen(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._lived_at = time.monotonic()
            if said := line.rstrip("\n"):
                self._said.append(said)

    def _hand_on(self) -> None:
        """Pass on the lines of the process, in the thread of the study."""
        while self._said:
            self._say(self._said.popleft())

    def _wait(self) -> None:
        """Wait until the process has written all events, while it makes progress."""
        self._lived_at = time.monotonic()
        while time.monotonic() - self._lived_at < _SILENT_FOR_S:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if code := self._process.wait(_POLL_S):
                    self._said.append(
                        f"{self._name}'s process ended by itself ({code}); "
                        f"quarterturn resume {self._study} adds the missing events"
                    )
                return
        self._said.append(
            f"{self._name} has written nothing for {_SILENT_FOR_S:g} s; "
            f"quarterturn resume {self._study} adds the missing events"
        )


def logs_of(
    names: Iterable[str], study: optuna.Study, folder: Path, say: Callable[[str], None]
) -> list[LoggerCallback]:
    """Return a callback for each logger; give the study an id for its logs if it has none."""
    names = tuple(names)
    if names and LOG_ID not in study.user_attrs:
        study.set_user_attr(LOG_ID, uuid.uuid4().hex)
    return [
        LoggerCallback(name, study.study_name, study.user_attrs[LOG_ID], folder, say)
        for name in names
    ]


def events_of(trial: TrialResult, metric: str) -> Iterator[Event]:
    """Yield the events of a trial so far, as the study holds them."""
    curve = trial.curve
    if trial.state == "running" and not len(curve):
        return  # it has not started, and may have only a part of its parameters
    yield Event.start(trial.number, trial.setting)
    for at, report in enumerate(curve.reports(), start=1):
        numbers = report.to_result(metric)
        if at == len(curve):
            numbers |= {key: value for key, value in trial.test.items() if not math.isnan(value)}
        yield Event.report(trial.number, report.epoch, numbers)
    if trial.state != "running":
        yield Event.end(trial.number, trial.state, trial.reason)
