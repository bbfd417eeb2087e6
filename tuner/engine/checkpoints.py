"""The folders of a study's trials, a folder for each attempt, and a check that all nodes see them.

A trial that continues after a pause or an interruption is a new trial for Ray. Ray would number its
checkpoints from 0 again, and overwrite the checkpoints that the study names. So each attempt has
its own folder. Folders are looked up by name, because listing a bucket takes longer with every
trial.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import optuna
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.engine.resources import Node
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.storage.paths import CHECKPOINTS, StoragePath, unusable
from tuner.study.folder import StudyFolder
from tuner.study.load import checkpoints_of


def new_attempt_dir(
    number: int, trials: StoragePath, checkpoint: str | None, taken: Collection[str] = ()
) -> str:
    """Return Ray's id for the next attempt at a trial, whose folder under `trials` is new.

    Args:
        number: the number of the trial in the study.
        trials: the folder with the folders of all attempts.
        checkpoint: the checkpoint that the study names, relative to `trials`. The new attempt comes
            after the attempt that wrote it.
        taken: ids of attempts that may have ended without a checkpoint. These have no folder.
    """
    first = _attempt_of(checkpoint) + 1 if checkpoint else 0
    folders = (_folder(number, attempt) for attempt in count(first))
    return next(
        trial_id
        for folder in folders
        if (trial_id := folder.removeprefix("trial-")) not in taken and not trials.folders([folder])
    )


def remove_other_attempts(number: int, trials: StoragePath, checkpoint: str) -> None:
    """Remove the folders of a trial's attempts, except the one with this checkpoint.

    The reports of the other attempts are in the study, and no trial continues from them. A folder
    that cannot be removed stays: an unreachable node may still write into it.
    """
    kept = _attempt_of(checkpoint)
    older = trials.folders([_folder(number, attempt) for attempt in range(kept)])
    for folder in (*older, *_newer(number, trials, kept)):
        with suppress(OSError):
            trials.remove(folder)


def copy_checkpoint(name: str, source: StoragePath, trials: StoragePath) -> bool:
    """Copy a checkpoint from the folder of a former driver's trials, under the same name.

    Returns: False if the checkpoint is gone, or that folder cannot be read from here.
    """
    from pyarrow.fs import copy_files  # type: ignore[import-untyped]

    try:
        if not source.folders([name]):
            return False
        trials.remove(name)  # an earlier copy may be incomplete
        (trials / name).make()
        copy_files(
            source.at(name),
            trials.at(name),
            source_filesystem=source.filesystem,
            destination_filesystem=trials.filesystem,
        )
    except (OSError, InvalidInput):
        return False
    return True


def _newer(number: int, trials: StoragePath, kept: int) -> Iterator[str]:
    for attempt in count(kept + 1):
        folder = _folder(number, attempt)
        if not trials.folders([folder]):
            return
        yield folder


def _folder(number: int, attempt: int) -> str:
    return f"trial-{number:05d}-{attempt}" if attempt else f"trial-{number:05d}"


def _attempt_of(checkpoint: str) -> int:
    """Return the attempt that wrote a checkpoint, from 0: 2 for trial-00007-2/..."""
    folder = checkpoint.partition("/")[0]
    return int(folder.removeprefix("trial-").partition("-")[2] or 0)


def open_trials(study: optuna.Study, job: TuningJob, home: StudyFolder) -> StoragePath:
    """Return the folder of the trials' folders, created and writable, and record it in the study.

    A study keeps the folder that it began with.

    Raises:
        InvalidInput: the folder cannot be written or contains other files, or the job names
            another folder than the study.
    """
    kept = checkpoints_of(study, home.path)
    assert kept is not None, "a study that is run has a folder"
    asked = StoragePath(job.checkpoints) / job.name / home.trials.name if job.checkpoints else kept
    if asked != kept and study.get_trials(deepcopy=False):
        raise InvalidInput(
            f"a study keeps the folder of its checkpoints, {job.name!r} was given "
            f"{str(job.checkpoints)!r} where it has {str(kept)!r}; leave --checkpoints out, or "
            "choose another name"
        )
    asked.check_writable()
    if asked != kept:
        _check_empty(asked)
        study.set_user_attr(CHECKPOINTS, str(asked))
    return asked


def forget_trials(trials: StoragePath, home: StudyFolder) -> None:
    """Remove the trials' folders of a study, if they are outside the study's folder."""
    if trials != StoragePath(str(home.trials)):
        with contextlib.suppress(OSError):  # the user needs the error that refused the study
            trials.parent.remove()


def _check_empty(asked: StoragePath) -> None:
    try:
        empty = asked.is_empty()
    except OSError as error:
        raise unusable(asked, error) from error
    if not empty:
        raise InvalidInput(
            f"checkpoints must be in the study's own folder, {str(asked)!r} is not empty; "
            "remove its content, or choose another name or --checkpoints"
        )


# The first task on a node starts a process, which imports this module.
_ANSWER_WITHIN_S = 60.0


def check_shared(
    path: StoragePath, nodes: Sequence[Node], within_s: float = _ANSWER_WITHIN_S
) -> None:
    """Check that every node can read a file that this process writes to a path, and write there.

    Without the check, each trial would fail at its first checkpoint. The first trial on a node that
    joins later checks that node (`StorageProbe`).

    Args:
        path: an existing folder that this process can write.
        nodes: the nodes that may run trials. A cluster of one node needs no check.
        within_s: seconds for all answers together.

    Raises:
        InvalidInput: a node does not see the path, cannot write there or does not answer.
    """
    if len(ray.nodes()) < 2:
        return
    name = f".quarterturn-{uuid.uuid4().hex}"
    written = [f"{name}-{index}" for index in range(len(nodes))]
    try:
        path.write(name, b"seen")
        answers = [
            _ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(path, name, mine)
            for node, mine in zip(nodes, written, strict=True)
        ]
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=within_s)
        for node, answer, mine in zip(nodes, answers, written, strict=True):
            why = _problem(answer) if answer in ready else f"no answer within {within_s:g} s"
            if why is None and not _is_there(path, mine):
                why = "it sees another folder of that name"
            if why is not None:
                raise refusal(path, node, why)
    except OSError as error:
        raise unusable(path, error) from error
    finally:
        for marker in (name, *written):
            path.remove(marker)


@ray.remote(num_cpus=0, max_retries=0)
def _ask(path: StoragePath, name: str, mine: str) -> str | None:
    return why_unusable(path, name, mine)


def why_unusable(path: StoragePath, name: str, mine: str) -> str | None:
    """Return why this node cannot use a path; None if it can.

    Args:
        path: the folder with the checkpoints.
        name: the name of a file that another node has written there.
        mine: the name of a file that this node writes.
    """
    try:
        path.read(name)
        path.write(mine, b"seen")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _problem(answer: Any) -> str | None:
    try:
        said: str | None = ray.get(answer)
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
    return said


def _is_there(path: StoragePath, name: str) -> bool:
    try:
        path.read(name)
    except FileNotFoundError:
        return False
    return True


def refusal(path: StoragePath, node: Node, why: str) -> InvalidInput:
    """Return the error for a node that cannot use a path."""
    if path.is_local:
        return InvalidInput(
            f"checkpoints must be in a folder that every node sees, got {str(path)!r}, which "
            f"{node.name} cannot use ({why}); mount one or use --checkpoints s3://..."
        )
    return InvalidInput(
        f"checkpoints must be at a URL that every node can read and write, got {str(path)!r}, "
        f"which {node.name} cannot use ({why}); give the nodes a role or the credentials"
    )
