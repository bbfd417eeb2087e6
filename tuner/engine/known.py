"""What the study knows of a trial that has not ended."""

from __future__ import annotations

import math

import optuna
from optuna.trial import FrozenTrial

from tuner.study.record import ADVICE, reports_of


def known_of(trial: optuna.Trial) -> FrozenTrial:
    """Return all that is recorded of a trial by now."""
    return trial.study._storage.get_trial(trial._trial_id)


def reached(trial: optuna.Trial) -> tuple[float, float]:
    """Return the epochs that a trial has reported, and its last metric; NaN before the first."""
    known = known_of(trial)
    step = known.last_step
    value = math.nan if step is None else known.intermediate_values[step]
    return max(reports_of(known), default=0.0), value


def is_advised(trial: optuna.Trial) -> bool:
    """Whether a trial tests an advice; it may then lie outside of the space."""
    return ADVICE in known_of(trial).user_attrs
