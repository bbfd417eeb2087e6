"""The process that writes a log: it reads events from its input and prints faults."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tuner.engine.loggers.base import Event, LogWriter, from_line
from tuner.engine.loggers.registry import make_sink
from tuner.storage.batch_writer import BatchWriter

_AGAIN_AFTER_S = 30.0
_LONGEST_CAUSE = 200
_PASSWORD = re.compile(r"://[^/@\s]*@")  # and the name before it, in a URL
# MLflow reads these when it is imported. Its defaults wait minutes for a server.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class RetryQueue:
    """Keeps the events that could not be written, and tries again later.

    Args:
        name: the name of the logger.
        study: the name of the study.
        make: opens the log.
        say: called once if the log cannot be written, and at the end if events are missing. An
            empty line shows that writing continues.
    """

    def __init__(
        self, name: str, study: str, make: Callable[[], LogWriter], say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._study = study
        self._make = make
        self._say = say
        self._sink: LogWriter | None = None
        self._left: list[Event] = []
        self._not_before = 0.0
        self._said = False

    def write(self, events: Iterable[Event]) -> None:
        """Write events, or keep them if the log cannot be written now."""
        self._left += events
        if time.monotonic() >= self._not_before:
            self._try()

    def close(self) -> None:
        """Try to write the kept events a last time."""
        if self._left:
            self._try()
        if self._left:
            reports = sum(event.epoch is not None for event in self._left)
            self._say(
                f"{self._name} lacks {reports} reports of this study; once it can be written, "
                f"quarterturn resume {self._study} adds them"
            )

    def _try(self) -> None:
        try:
            self._sink = self._sink or self._make()
            self._sink.write(self._left, lives=lambda: self._say(""))
        except Exception as error:  # whatever the log's own package raises
            self._not_before = time.monotonic() + _AGAIN_AFTER_S
            if not self._said:
                self._said = True
                self._say(
                    f"{self._name} cannot be written ({_in_short(error)}); the study continues, "
                    f"and writing is tried again every {_AGAIN_AFTER_S:g} s"
                )
        else:
            self._left = []


def main() -> None:
    """Write all events of the input; argv has the logger, the study, its id and its folder."""
    name, study, study_id, folder = sys.argv[1:]
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    outbox = RetryQueue(name, study, lambda: make_sink(name, study, study_id, Path(folder)), _say)
    writer = BatchWriter(outbox.write)
    for line in sys.stdin:
        writer.put([from_line(line)])
    writer.close()
    outbox.close()


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process of the study has ended
        print(line, flush=True)


def _in_short(error: Exception) -> str:
    words = _PASSWORD.sub("://", " ".join(str(error).split()))
    cut = words if len(words) <= _LONGEST_CAUSE else f"{words[:_LONGEST_CAUSE]}..."
    return f"{type(error).__name__}: {cut}"
