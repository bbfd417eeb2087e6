"""The folder of a study's trials: chosen once, the study's own, and writable before any starts."""

from __future__ import annotations

import contextlib

import optuna

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
        raise InvalidInput(
            f"a study keeps the place of its checkpoints, {job.name!r} was given "
            f"{str(job.checkpoints)!r} where it has {str(kept)!r}; leave --checkpoints out, or "
            "choose another name"
        )
    asked.check_writable()
    if asked != kept:
        _check_empty(asked)
        study.set_user_attr(CHECKPOINTS, str(asked))
    return asked


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
