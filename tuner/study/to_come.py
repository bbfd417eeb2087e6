"""How much a study has still to train, by what its trials have come to so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def epochs_to_come(
    *,
    ended: Sequence[float],
    running: Sequence[float],
    waiting: Sequence[float],
    new: int,
    max_epochs: float,
) -> float:
    """Return the epochs that are yet to be trained, as far as can be told.

    A running trial is taken to go on as those did that had come as far, and a new one to train as
    much as the others on average. Those that wait for their peers are mostly pruned in the end, all
    at once, and what some of them go on for, others that come later do not: only one of them is
    counted, to its end, since each rung has a place more when nothing new is to come. On recorded
    studies this came out at about half to twice what was trained (docs/log.md, 2026-11-25).

    Args:
        ended: epochs of the trials that have ended, >= 0.
        running: epochs of those that run, or are the next to.
        waiting: epochs of those that wait at a rung.
        new: trials to be made yet, >= 0.
        max_epochs: of a whole trial.
    """
    settled = np.sort([*ended, *waiting])
    after = np.append(np.cumsum(settled[::-1])[::-1], 0.0)  # the sum from each place on
    before = np.asarray(running, dtype=float)
    place = np.searchsorted(settled, before)
    peers = len(settled) - place
    # Nobody has been there before: it may run to its end.
    last = np.where(peers, after[place] / np.maximum(peers, 1), max_epochs)
    made = len(settled) + len(before)
    mean = (after[0] + last.sum()) / made if made else max_epochs
    one = max_epochs - min(waiting) if waiting else 0.0
    return float((last - before).sum() + new * mean + one)
