"""quarterturn: hyperparameter tuning that watches how far each layer turns.

The public names are handed on lazily: importing one costs only that one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api import resume, run
    from tuner.cluster.submit import submit
    from tuner.errors import InvalidInput
    from tuner.job import TuningJob
    from tuner.rate_finder.find_rate import find_rate
    from tuner.rotation import RotationMonitor, RotationTarget
    from tuner.study.load import load_study
    from tuner.study.pruners import RotationPruner
    from tuner.study.result import StudyResult
    from tuner.study.schema import report_rotation

_HOMES = {
    "InvalidInput": "tuner.errors",
    "RotationMonitor": "tuner.rotation",
    "RotationPruner": "tuner.study.pruners",
    "RotationTarget": "tuner.rotation",
    "StudyResult": "tuner.study.result",
    "TuningJob": "tuner.job",
    "find_rate": "tuner.rate_finder.find_rate",
    "load_study": "tuner.study.load",
    "report_rotation": "tuner.study.schema",
    "resume": "tuner.api",
    "run": "tuner.api",
    "submit": "tuner.cluster.submit",
}

__all__ = [
    "InvalidInput",
    "RotationMonitor",
    "RotationPruner",
    "RotationTarget",
    "StudyResult",
    "TuningJob",
    "find_rate",
    "load_study",
    "report_rotation",
    "resume",
    "run",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
