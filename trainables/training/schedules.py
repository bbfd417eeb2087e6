"""Learning-rate schedules as arrays over the whole run, so that `lr_progress` can be computed."""

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
    """Return the factor of the initial learning rate at each step of a run.

    After the warmup, `constant` stays at 1, `cosine` falls from 1 to nearly 0, and `step` is
    multiplied by `step_factor` at each share of the run in `step_at`.

    Args:
        schedule: a name of `SCHEDULES`.
        total_steps: the steps of the run.
        warmup_steps: steps of a linear increase from 0; at the last of them the factor is 1.
        step_factor: the factor of each drop under `step`, > 0.
        step_at: shares of the whole run, each in (0, 1).

    Returns:
        An array of shape `(total_steps,)`.

    Example:
        >>> lr_factors("step", 4, step_at=(0.5,)).tolist()
        [1.0, 1.0, 0.2, 0.2]
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

    The rotation of a layer follows this share, whatever the schedule.

    Args:
        factors: the factor of the learning rate at each step.

    Returns:
        An increasing array of the same shape, in (0, 1]; the last value is exactly 1.

    Example:
        >>> lr_spent(np.array([1.0, 1.0, 0.5, 0.5])).round(3).tolist()
        [0.333, 0.667, 0.833, 1.0]
    """
    summed = np.cumsum(factors)
    spent: NDArray[np.float64] = summed / summed[-1]
    return spent
