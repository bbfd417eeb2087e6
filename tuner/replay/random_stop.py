"""random_stop: what halving saves by stopping alone, knowing nothing of the trials."""

from __future__ import annotations

import random

from tuner.replay.halving import Asha


def random_stop(max_epochs: int, *, eta: int, seed: int) -> Asha:
    """Return halving at the rungs of `Asha` by a random score, drawn anew at each rung.

    No source: it is the control of every comparison, since whatever is stopped at random saves
    epochs too.
    """
    draw = random.Random(seed)
    return Asha(max_epochs, lambda curve: draw.random(), eta=eta)
