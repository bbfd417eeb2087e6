"""The verbs `run` and `resume`: the engine's, with a live view where no observer is given.

The engine knows no terminal, so the view is handed to it here, as one of its callbacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.engine import run as engine
from tuner.engine.callbacks import RunCallback
from tuner.job import TuningJob
from tuner.report.terminal import RunProgress
from tuner.study.folder import DEFAULT_FOLDER
from tuner.study.result import StudyResult


class ShownProgress(RunProgress, RunCallback):
    """The live view of a run, as a callback of the engine."""


def run(
    job: TuningJob,
    *,
    observer: RunCallback | None = None,
    code: Path | None = None,
    retry_failed: bool = False,
) -> StudyResult:
    """Run a job until all its trials have ended, and return its study.

    An existing study of this name is continued if its space, metric and budget per trial are the
    same. Interrupted trials go on from their checkpoints. New trials are made until there are
    `num_trials` in all. Ctrl-C ends the run early; the result is then not `finished`.

    Args:
        job: the job.
        observer: its methods are called at each start, report and end of a trial. The default
            shows the study on the terminal.
        code: a folder of modules that the job imports, to keep with the study for `resume`.
        retry_failed: whether to run each failed trial once more, as a new trial.

    Raises:
        InvalidInput: the job cannot be run. A study that this call has made is removed, unless a
            trial of it has reported or has a checkpoint.
    """
    return engine.run(
        job, observer=observer or ShownProgress(), code=code, retry_failed=retry_failed
    )


def resume(
    name: str,
    *,
    folder: Path | str = DEFAULT_FOLDER,
    observer: RunCallback | None = None,
    retry_failed: bool = False,
    **changes: Any,
) -> StudyResult:
    """Continue a study with the job that it was last run with.

    Ended trials are not run again. Interrupted trials go on from their checkpoints, and are judged
    as if they had not been interrupted.

    Args:
        name: the study's name.
        folder: the folder of studies.
        observer: as for `run`.
        retry_failed: as for `run`.
        changes: fields of the job to replace, for example ``num_trials=100``.

    Raises:
        InvalidInput: there is no such study, or its job cannot be read.
    """
    shown = observer or ShownProgress()
    return engine.resume(name, folder=folder, observer=shown, retry_failed=retry_failed, **changes)
