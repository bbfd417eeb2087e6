"""A quiet Ray for one study: started if there is none, with Ray Tune set up for a study."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from tuner.errors import InvalidInput

# How Ray Tune is set up while a study runs; it reads these when its controller is made.
_TUNE_ENVIRONMENT = {
    # The study is the record; CSV, JSON and TensorBoard files of Ray's own would be a second.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # The searcher decides how far ahead it goes.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    # Errors are in the study, with their reason.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # The pruner judges reports without the metric too.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Has the controller ask for several reports at once; `buffer_reports` decides how many.
    "TUNE_RESULT_BUFFER_LENGTH": "2",
}
# What Ray's own processes read when they start.
_RAY_ENVIRONMENT = {
    # Ray Tune prints nothing of its own; the observer does.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Relative paths in a job file mean the folder it was started in.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A failed trial's error is in the study; its traceback is not for the terminal.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Ray's warning about a change of its defaults for GPUs, which no trial here relies on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

# A TCP connection across the world takes a fraction of this.
_ANSWERS_WITHIN_S = 3.0


@contextmanager
def ray_session(code: Path | None = None) -> Iterator[None]:
    """Use the Ray that is there (or RAY_ADDRESS names), else start one and stop it at the end.

    Workers start in a copy of the folder `code`, and import from it, if that exists.
    """
    runtime_env = {"working_dir": str(code)} if code and code.is_dir() else None
    with _environment({**_TUNE_ENVIRONMENT, **_RAY_ENVIRONMENT}):
        started = not ray.is_initialized()
        if started:
            _check_address(os.environ.get("RAY_ADDRESS", ""))
            try:
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=False,
                    runtime_env=runtime_env,
                )
            except ConnectionError as error:
                raise InvalidInput(
                    f"the Ray cluster must answer, got {error}; check RAY_ADDRESS and the token, "
                    "or set RAY_ADDRESS=local to run here"
                ) from error
        tune_log = logging.getLogger("ray.tune")
        level = tune_log.level
        tune_log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            tune_log.setLevel(level)
            if started:
                ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse a cluster's address where nothing listens: Ray would wait there for two minutes.

    Raises:
        InvalidInput: nothing answers at the host and port that it names.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" or "local", say, which Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise InvalidInput(
            f"the Ray cluster must answer, got {address!r} ({error.strerror or error}); check "
            "RAY_ADDRESS, or set it to local to run here"
        ) from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; one that the user has set stays as it is."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
