"""The folders of a study's trials and of each attempt at a trial, and whether every node sees them.

To Ray, a trial that goes on after a pause or an interruption is another one: it would number
checkpoints from 0 again, over those that the study names. So each part has a folder of its own.
They are asked for by name, since listing a bucket takes the longer the more trials there are.
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
    """Return Ray's id for the next part of a trial, whose folder under `trials` is new.

    Args:
        number: of the trial in the study.
        trials: where the folders of all trials' parts are.
        checkpoint: the one that the study names, relative to `trials`; its part is the last one
            that can be older than the next.
        taken: ids of parts that may never have come to write a checkpoint, and so have no folder.
    """
    first = _part_of(checkpoint) + 1 if checkpoint else 0
    folders = (_folder(number, part) for part in count(first))
    return next(
        part
        for folder in folders
        if (part := folder.removeprefix("trial-")) not in taken and not trials.folders([folder])
    )


def remove_other_attempts(number: int, trials: StoragePath, checkpoint: str) -> None:
    """Remove the folders of a trial's parts but the one that holds this checkpoint.

    What they reported is in the study, and nobody will go on from them. One that cannot be removed
    is left: a node that is out of reach may write into it still.
    """
    kept = _part_of(checkpoint)
    older = trials.folders([_folder(number, part) for part in range(kept)])
    for folder in (*older, *_newer(number, trials, kept)):
        with suppress(OSError):
            trials.remove(folder)


def bring_checkpoint(name: str, place: StoragePath, trials: StoragePath) -> bool:
    """Copy a checkpoint from the path of a former driver's trials, under the same name.

    Returns: whether it is now here; it cannot be where that place is out of reach.
    """
    from pyarrow.fs import copy_files  # type: ignore[import-untyped]

    try:
        if not place.folders([name]):
            return False
        trials.remove(name)  # what may be left of an earlier attempt
        (trials / name).make()
        copy_files(
            place.at(name),
            trials.at(name),
            source_filesystem=place.filesystem,
            destination_filesystem=trials.filesystem,
        )
    except (OSError, InvalidInput):
        return False
    return True


def _newer(number: int, trials: StoragePath, kept: int) -> Iterator[str]:
    for part in count(kept + 1):
        folder = _folder(number, part)
        if not trials.folders([folder]):
            return
        yield folder


def _folder(number: int, part: int) -> str:
    return f"trial-{number:05d}-{part}" if part else f"trial-{number:05d}"


def _part_of(checkpoint: str) -> int:
    """Return which part of its trial a checkpoint is of, from 0: trial-00007-2/... of the third."""
    folder = checkpoint.partition("/")[0]
    return int(folder.removeprefix("trial-").partition("-")[2] or 0)


def open_trials(study: optuna.Study, job: TuningJob, home: StudyFolder) -> StoragePath:
    """Return where the trials' folders are, made and writable, and have the study remember it.

    A study keeps the place that it was begun with.

    Raises:
        InvalidInput: the place cannot be written, holds another study's trials, or the job names
            another than the study has.
    """
    kept = checkpoints_of(study, home.path)
    assert kept is not None, "a study that is run has a folder"
    asked = StoragePath(job.checkpoints) / job.name / home.trials.name if job.checkpoints else kept
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


def forget_trials(trials: StoragePath, home: StudyFolder) -> None:
    """Remove what a study that is to leave nothing has left outside of its folder."""
    if trials != StoragePath(str(home.trials)):
        with contextlib.suppress(OSError):  # why the study was refused is what is to be said
            trials.parent.remove()


def _check_empty(asked: StoragePath) -> None:
    try:
        empty = asked.is_empty()
    except OSError as error:
        raise unusable(asked, error) from error
    if not empty:
        raise InvalidInput(
            f"checkpoints must be in a folder of the study's own, {str(asked)!r} holds something; "
            "remove it, or choose another name or --checkpoints"
        )


# A node's first task starts a process there, and imports what this module imports.
_ANSWER_WITHIN_S = 60.0


def check_shared(
    place: StoragePath, nodes: Sequence[Node], within_s: float = _ANSWER_WITHIN_S
) -> None:
    """Have every node read what this process writes in a place, and write there itself.

    Ray would find out at the first checkpoint of each trial. Nodes that join later are asked by the
    first trial there (`late_nodes`).

    Args:
        place: exists, and can be written from here.
        nodes: those that may run trials; with one, or in a cluster of one, there is nothing to ask.
        within_s: seconds for all answers together.

    Raises:
        InvalidInput: a node does not see the place, cannot write there or does not answer.
    """
    if len(ray.nodes()) < 2:
        return
    name = f".quarterturn-{uuid.uuid4().hex}"
    written = [f"{name}-{index}" for index in range(len(nodes))]
    try:
        place.write(name, b"seen")
        answers = [
            _ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(place, name, mine)
            for node, mine in zip(nodes, written, strict=True)
        ]
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=within_s)
        for node, answer, mine in zip(nodes, answers, written, strict=True):
            why = _problem(answer) if answer in ready else f"no answer within {within_s:g} s"
            if why is None and not _is_there(place, mine):
                why = "it sees another folder of that name"
            if why is not None:
                raise refusal(place, node, why)
    except OSError as error:
        raise unusable(place, error) from error
    finally:
        for marker in (name, *written):
            place.remove(marker)


@ray.remote(num_cpus=0, max_retries=0)
def _ask(place: StoragePath, name: str, mine: str) -> str | None:
    return why_unusable(place, name, mine)


def why_unusable(place: StoragePath, name: str, mine: str) -> str | None:
    """Return why this node cannot use the place; None if it can.

    Args:
        name: of a file that another node has written there.
        mine: of one that is written.
    """
    try:
        place.read(name)
        place.write(mine, b"seen")
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


def _is_there(place: StoragePath, name: str) -> bool:
    try:
        place.read(name)
    except FileNotFoundError:
        return False
    return True


def refusal(place: StoragePath, node: Node, why: str) -> InvalidInput:
    """Return the line that a node cannot use a place."""
    if place.is_local:
        return InvalidInput(
            f"checkpoints must be in a folder that every node sees, got {str(place)!r}, which "
            f"{node.name} cannot use ({why}); mount one or use --checkpoints s3://..."
        )
    return InvalidInput(
        f"checkpoints must be in a place that every node can read and write, got {str(place)!r}, "
        f"which {node.name} cannot use ({why}); give the nodes a role or the credentials"
    )
