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

# Ray Tune reads these when it creates its controller.
_TUNE_ENVIRONMENT = {
    # The study is the record, so Ray writes no CSV, JSON and TensorBoard files.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # The searcher decides how many trials wait for resources.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    # Errors are in the study, with their reason.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # The pruner also decides on reports without the metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Makes the controller request several reports at once; `buffer_reports` decides how many.
    "TUNE_RESULT_BUFFER_LENGTH": "2",
}
# Ray's own processes read these when they start.
_RAY_ENVIRONMENT = {
    # Ray Tune prints nothing of its own; the observer does.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Relative paths in a job file mean the folder it was started in.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A failed trial's error is in the study; its traceback is not for the terminal.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Turns off Ray's warning about a change of its defaults for GPUs. No trial relies on them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

# A TCP connection across the world takes a fraction of this.
_ANSWERS_WITHIN_S = 3.0


@contextmanager
def ray_session(code: Path | None = None) -> Iterator[None]:
    """Connect to Ray, if this process has not done so, and disconnect at the end.

    RAY_ADDRESS names the cluster. Without a cluster, a local Ray is started and stopped.

    Args:
        code: a folder, if it exists. Workers start in a copy of it, and import from it.

    Raises:
        InvalidInput: the cluster does not answer.
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
    """Check that a server listens at a cluster's address. Ray would wait for two minutes.

    Raises:
        InvalidInput: nothing answers at the host and port of the address.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # such as "auto" or "local", for which Ray does not wait
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise InvalidInput(
            f"the Ray cluster must answer, got {address!r} ({error.strerror or error}); check "
            "RAY_ADDRESS, or set it to local to run here"
        ) from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the context. Variables of the user are not changed."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
