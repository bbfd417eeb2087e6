"""What a search space says of one key of its configurations."""

from __future__ import annotations

import optuna
from optuna.distributions import FloatDistribution

from tuner.study.space import Space, tried

Range = tuple[float, float] | None

# Of a range that begins at 0, or nearly, the decades that matter.
_DECADES = 4


def lr_range(space: Space, optimizer: str, usual: str = "sgd") -> Range:
    """Return the learning rates that a space searches with an optimizer, lowest and highest, > 0;
    None where it searches none with that one.

    They are those of the parameter that a configuration hands on as `lr`, in the first of some
    draws that has one. A configuration that names no optimizer is for the usual one.
    """
    for trial, config in tried(space):
        chosen = config.get("optimizer", usual)
        if chosen == optimizer and (found := _of_lr(trial, config.get("lr"))):
            return max(found.low, found.high / 10**_DECADES), found.high
    return None


def _of_lr(trial: optuna.Trial, lr: object) -> FloatDistribution | None:
    for name, range_ in trial.distributions.items():
        handed_on = name.endswith("lr") and trial.params[name] == lr
        if handed_on and isinstance(range_, FloatDistribution) and range_.low < range_.high:
            return range_
    return None
