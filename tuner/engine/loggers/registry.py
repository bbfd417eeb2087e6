"""The loggers by name: the package of each, the place of its log, and how to open it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tuner.errors import InvalidInput

if TYPE_CHECKING:
    from tuner.engine.loggers.base import LogWriter


_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}


def check_loggers(names: Iterable[str]) -> None:
    """Check that the packages of some loggers are installed.

    Raises:
        InvalidInput: a package is not installed.
    """
    for name in names:
        package = _PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise InvalidInput(
                f"logger {name} needs the package {package}, which is not installed; "
                f"pip install 'quarterturn[{name}]', or --log none"
            )


def tracking_uri(folder: Path) -> str:
    """Return the URI of MLflow's runs: MLFLOW_TRACKING_URI, or a database in the folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def how_to_look(name: str, folder: Path) -> str:
    """Return the command or the URL that shows the log of a study."""
    if name == "tensorboard":
        return f"tensorboard --logdir {_short(folder / 'tensorboard')}"
    uri = tracking_uri(folder)
    if uri.startswith("http"):
        parts = urlsplit(uri)  # which may hold a password
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "MLFLOW_TRACKING_URI" in os.environ:
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri sqlite:///{_short(folder / 'mlflow.db')}"


def make_sink(name: str, study: str, study_id: str, folder: Path) -> LogWriter:
    """Open a log for writing. The import of its package takes seconds."""
    if name == "tensorboard":
        from tuner.engine.loggers.tensorboard import TensorBoard

        return TensorBoard(folder)
    from tuner.engine.loggers.mlflow import Mlflow

    return Mlflow(study, study_id, folder)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
