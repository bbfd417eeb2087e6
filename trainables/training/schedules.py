"""Learning-rate schedules as arrays, so that the rate still to be spent is known in advance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SCHEDULES = ("constant", "cosine", "step")


def lr_factors(
    schedule: str,
    total_steps: int,
    warmup_steps: int = 0,
    *,
    step_factor: float = 0.2,
    step_at: Sequence[float] = (0.5, 0.75),
) -> NDArray[np.float64]:
    """Return what the initial learning rate is multiplied by at each step of a run.

    The result has shape `(total_steps,)`. The first `warmup_steps` climb linearly, and the last
    of them is at 1. After them:

    - `constant` stays at 1;
    - `cosine` falls from 1 to nearly 0 over the steps that are left;
    - `step` is multiplied by `step_factor` at each share in `step_at` of the whole run.
    """
    assert schedule in SCHEDULES
    assert 0 <= warmup_steps < total_steps
    warmup = np.arange(1, warmup_steps + 1) / max(warmup_steps, 1)
    left = total_steps - warmup_steps
    after: NDArray[np.float64]
    if schedule == "cosine":
        after = (1 + np.cos(np.pi * np.arange(left) / left)) / 2
    elif schedule == "step":
        share = np.arange(warmup_steps, total_steps) / total_steps
        drops = np.searchsorted(sorted(step_at), share, side="right")
        after = np.power(np.float64(step_factor), drops)
    else:
        after = np.ones(left)
    return np.concatenate([warmup, after])


def lr_spent(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the run's total learning rate that is spent after each step.

    Same shape as `factors`, rising, in (0, 1]; the last is exactly 1. It is the clock that a
    layer's rotation runs by, whatever the schedule.
    """
    summed = np.cumsum(factors)
    spent: NDArray[np.float64] = summed / summed[-1]
    return spent
