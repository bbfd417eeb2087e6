"""Parameters of a search space: what their names say they are, and where in a range they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Role = Literal["rate", "decay", "warmup", "alpha"]
Range = FloatDistribution | IntDistribution

_IS: dict[Role, Callable[[str], bool]] = {
    "rate": lambda name: name.endswith(("lr", "learning_rate")),
    "decay": lambda name: "weight_decay" in name or name in ("wd", "l2") or name.endswith("_wd"),
    "warmup": lambda name: "warmup" in name or "warm_up" in name,
    "alpha": lambda name: name == "alpha",
}


def role_of(name: str) -> Role | None:
    """Return what a parameter is by the last part of its name, or None."""
    last = name.rpartition("/")[2].lower()
    return next((role for role, fits in _IS.items() if fits(last)), None)


def name_of(
    role: Role, params: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> str | None:
    """Return the first of a trial's parameters that has this role, a number and a known range."""
    return next(
        (
            name
            for name, value in params.items()
            if role_of(name) == role and name in space and _is_number(value)
        ),
        None,
    )


def place(distribution: Range, value: float) -> float:
    """Return where a value is in its range: 0 at the low end, 1 at the high one, evenly as it is
    searched."""
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def at_place(distribution: Range, where: float) -> float:
    """Return the value at a place, which may be outside of the range."""
    low, high = distribution.low, distribution.high
    if distribution.log:
        return float(math.exp(math.log(low) + where * (math.log(high) - math.log(low))))
    return float(low + where * (high - low))


def is_on_top(distribution: BaseDistribution, value: float) -> bool:
    """Whether a value is in the outer tenth of its range, or the largest of its choices."""
    if isinstance(distribution, CategoricalDistribution):
        return bool(value >= fitting(distribution, math.inf))
    assert isinstance(distribution, Range)
    return place(distribution, value) >= 0.9


def fitting(distribution: BaseDistribution, value: float, *, beyond: bool = False) -> Any:
    """Return the value nearest to one that the distribution holds, in three digits where it may.

    With `beyond` the ends of the range do not count, only whole numbers and steps.
    """
    if isinstance(distribution, CategoricalDistribution):
        numbers: list[Any] = [choice for choice in distribution.choices if _is_number(choice)]
        # To infinity all are equally far.
        return max(numbers) if value == math.inf else min(numbers, key=lambda n: abs(n - value))
    assert isinstance(distribution, Range)
    if not beyond:
        value = min(max(value, distribution.low), distribution.high)
    if distribution.step is not None and value != math.inf:
        steps = round((value - distribution.low) / distribution.step)
        stepped = distribution.low + steps * distribution.step
        return int(stepped) if isinstance(distribution, IntDistribution) else float(stepped)
    short = float(f"{value:.3g}")
    return short if beyond or distribution.low <= short <= distribution.high else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
