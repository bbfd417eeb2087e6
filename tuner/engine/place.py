"""The folder of a study's trials: chosen once, the study's own, and writable before any starts."""

from __future__ import annotations

import contextlib

import optuna

from tuner.engine.company import Company
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.study.catalog import StudyFolder
from tuner.study.load import CHECKPOINTS, checkpoints_of
from tuner.study.places import Place, unusable


def open_trials(study: optuna.Study, job: TuningJob, home: StudyFolder) -> Place:
    """Return where the trials' folders are, made and writable, and have the study remember it.

    A study keeps the place that it was begun with.

    Raises:
        InvalidInput: the place cannot be written, holds another study's trials, or the job names
            another than the study has.
    """
    kept = checkpoints_of(study, home.path)
    assert kept is not None, "a study that is run has a folder"
    asked = Place(job.checkpoints) / job.name / home.trials.name if job.checkpoints else kept
    if asked != kept and study.get_trials(deepcopy=False):
        raise _another(job, str(kept))
    asked.check_writable()
    company = Company(study)
    if asked != kept:
        if company.is_alone:  # else another may be the first to use it
            _check_empty(asked)
        agreed = company.agree({CHECKPOINTS: str(asked)}, over=True)[CHECKPOINTS]
        if agreed != str(asked):
            raise _another(job, agreed)
    company.keep_trials_at(asked)
    return asked


def _another(job: TuningJob, kept: str) -> InvalidInput:
    return InvalidInput(
        f"a study keeps the place of its checkpoints, {job.name!r} was given "
        f"{str(job.checkpoints)!r} where it has {kept!r}; leave --checkpoints out, or "
        "choose another name"
    )


def forget_trials(trials: Place, home: StudyFolder) -> None:
    """Remove what a study that is to leave nothing has left outside of its folder."""
    if trials != Place(str(home.trials)):
        with contextlib.suppress(OSError):  # why the study was refused is what is to be said
            trials.parent.remove()


def _check_empty(asked: Place) -> None:
    try:
        empty = asked.is_empty()
    except OSError as error:
        raise unusable(asked, error) from error
    if not empty:
        raise InvalidInput(
            f"checkpoints must be in a folder of the study's own, {str(asked)!r} holds something; "
            "remove it, or choose another name or --checkpoints"
        )
