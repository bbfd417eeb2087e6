"""quarterturn: hyperparameter tuning that measures how far each layer turns.

Packages, from the lowest floor to the highest; each imports only those below it:

- errors.py: InvalidInput, the error that a user can cause
- files.py: write a file whole or not at all
- vega.py: what all charts share, and writing one as a picture
- rotation/: measure, forecast and judge layer rotation
- storage/: where a study is kept: journal, database, lease, paths
- study/: the Optuna study: schema, search spaces, samplers, pruners, results
- job.py: TuningJob, the description of a tuning job
- jobfile.py: a job from a Python file, or from names on the command line
- engine/: run the trials of one study on Ray Tune
- replay/: recorded curves, and the simulator that compares schedulers on them
- report/: tables, pages, charts, advice and the live view of a study
- api.py: run and resume, with the live view
- rate_finder/: find the learning rate for a final rotation
- paper/: reproduce the findings of arXiv:1806.01603
- serve/: all studies in a browser
- cluster/: submit jobs to a Ray cluster, and read them from afar
- cli/: the command `quarterturn`

Begin with job.py, then api.py. The public names are imported on first use, so importing one costs
only that one.
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
