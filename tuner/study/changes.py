"""Changes that were made in memory, to be repeated on a database: once, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tuner.study.driver import DRIVER

Change = tuple[str, int, tuple[Any, ...]]  # the method, the study's or trial's id, the rest
Together = tuple[Change, ...]  # what is of no use apart

# A transaction holds a driver's record, so that it cannot say that it lives (log of 2026-11-26).
_PIECE = 200


def pieces(changes: Sequence[Together]) -> Iterator[list[Change]]:
    """Yield the changes, in order, by as many as one transaction may make."""
    piece: list[Change] = []
    for together in changes:
        piece += together
        if len(piece) >= _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def is_of_trial(change: Change) -> bool:
    """Whether it is a trial that a change is of, or else the study."""
    return change[0].startswith("set_trial")


def repeat(changes: Sequence[Change], database: RDBStorage) -> None:
    """Make the changes; their ids are the database's."""
    for method, item_id, rest in changes:
        getattr(database, method)(item_id, *rest)


def were_made(changes: Sequence[Change], database: RDBStorage, driver: str) -> bool:
    """Whether a transaction of these changes, whose end its driver was not told, was committed.

    All of them were made or none, so the first that can tell tells of all. Nobody but its driver
    writes to a trial, so until they are made the trials that they end or release run and are the
    driver's, and have none of the parameters that are set. To set attributes and to report cannot
    tell, but makes no difference when it is done twice.
    """
    for method, item_id, rest in changes:
        if method == "set_trial_state_values":
            trial = database.get_trial(item_id)
            return trial.state != TrialState.RUNNING or trial.system_attrs.get(DRIVER) != driver
        if method == "set_trial_param":
            return rest[0] in database.get_trial(item_id).params
    return False
