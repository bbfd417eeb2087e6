"""`run` and `resume`: run a study with the engine, by default with a live view.

The engine does not import the terminal. This module passes the live view to it as a callback.
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
    same. Interrupted trials continue from their checkpoints. New trials are created until the study
    has `num_trials`. Ctrl-C ends the run early; the result is then not `finished`.

    Args:
        job: the job.
        observer: receives each start, report and end of a trial. Default: a live view on the
            terminal.
        code: a folder of modules that the job imports. It is stored with the study for `resume`.
        retry_failed: whether to run each failed trial once more, as a new trial.

    Raises:
        InvalidInput: the job cannot be run. A study that this call has created is then removed,
            unless a trial of it has reported or has a checkpoint.

    Example:
        >>> from tuner.jobfile import built_in_job
        >>> job = built_in_job("digits-mlp", "adamw", num_trials=10, max_epochs=5)
        >>> best = run(job).best  # doctest: +SKIP
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
    """Continue a study with the job of its last run.

    Ended trials are not run again. Interrupted trials continue from their checkpoints. The
    interruption does not change whether they are pruned.

    Args:
        name: the study's name.
        folder: the folder of all studies.
        observer: as for `run`.
        retry_failed: as for `run`.
        changes: fields of the job to replace, for example ``num_trials=100``.

    Raises:
        InvalidInput: the study does not exist, or its job cannot be read.

    Example:
        >>> study = resume("digits-mlp-adamw", num_trials=20)  # doctest: +SKIP

        The error for an unknown name lists the studies in the folder:

        >>> resume("digits-mlp-adamw", folder="no-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        tuner.errors.InvalidInput: unknown study 'digits-mlp-adamw'; known: none (in ...)
    """
    shown = observer or ShownProgress()
    return engine.resume(name, folder=folder, observer=shown, retry_failed=retry_failed, **changes)
