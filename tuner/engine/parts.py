"""The folders of a trial's parts: each new, and removed once nobody will go on from them.

To Ray, a trial that goes on after a pause or an interruption is another one: it would number
checkpoints from 0 again, over those that the study names. So each part has a folder of its own.
They are asked for by name, since listing a bucket takes the longer the more trials there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import count

from tuner.errors import InvalidInput
from tuner.study.places import Place


def next_part(
    number: int, trials: Place, checkpoint: str | None, taken: Collection[str] = ()
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


def remove_other_parts(number: int, trials: Place, checkpoint: str) -> None:
    """Remove the folders of a trial's parts but the one that holds this checkpoint.

    What they reported is in the study, and nobody will go on from them. One that cannot be removed
    is left: a node that is out of reach may write into it still.
    """
    kept = _part_of(checkpoint)
    older = trials.folders([_folder(number, part) for part in range(kept)])
    for folder in (*older, *_newer(number, trials, kept)):
        with suppress(OSError):
            trials.remove(folder)


def bring_checkpoint(name: str, place: Place, trials: Place) -> bool:
    """Copy a checkpoint from the place of another driver's trials, under the same name.

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


def _newer(number: int, trials: Place, kept: int) -> Iterator[str]:
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
