"""The parameter of a search space that sets the rotation, and the points on it to begin with.

Layca sets the rotation itself, by its rate or by `final_distance`. That is the coordinate in which
few points cover what matters: on normalised convolutional nets the best runs end near 1, on others
nearer a third (docs/rotation-search.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from tuner.study.space import Space, suggest, tried

_DISTANCES = (0.95, 0.6, 0.3)
# Around the paper's optima, 3^-3 and with Adam's momentum 3^-5 (arXiv:1806.01603).
_RATES = (3**-2, 3**-3, 3**-4)
_RATES_WITH_ADAM = (3**-4, 3**-5, 3**-6)
_DRAWS = 64
# Drawn alike, what else the space has is set to what the ladder's points were chosen with.
_PREFERRED: Mapping[str, Any] = {
    "schedule": "cosine",
    "momentum": 0.9,
    "batch_size": 128,
    "warmup_epochs": 0.0,
    "alpha": 0.0,
}


@dataclass(frozen=True)
class Gate:
    """The parameter of a space that says whether a trial is one with Layca.

    Attributes:
        name: of the categorical parameter.
        others: its choices without Layca, in the order of the space; at least one.
    """

    name: str
    others: tuple[Any, ...]


@dataclass(frozen=True)
class Axis:
    """The parameter of a space that sets the rotation, and what the others are while it moves.

    Attributes:
        name: of the parameter.
        range: that it is searched in.
        is_distance: whether it is a final distance, or else Layca's rate.
        ladder: the points to begin with, in their order.
        others: the other parameters.
        gate: the parameter that says whether there is Layca; None where none does.
    """

    name: str
    range: FloatDistribution
    is_distance: bool
    ladder: tuple[float, ...]
    others: Mapping[str, Any]
    gate: Gate | None

    def params(self, value: float) -> dict[str, Any]:
        """Return the parameters of the trial at a point."""
        return {**self.others, self.name: value}

    def place(self, value: float) -> float:
        """Return where a value lies on the scale refined on: the log of how far it turns."""
        return math.log(-math.log1p(-value)) if self.is_distance else math.log(value)

    def at(self, place: float) -> float:
        """Return the value at a place, within the range."""
        value = -math.expm1(-math.exp(place)) if self.is_distance else math.exp(place)
        return min(max(value, self.range.low), self.range.high)


def find_axis(space: Space, optimizer: str | None = None) -> Axis | None:
    """Return the coordinate of a space that sets the rotation; None where it has none.

    It is the parameter that a configuration with an optimizer of Layca's kind hands on as
    `final_distance`, or as `lr`. If not one `optimizer` is asked for, it is Layca over SGD, as
    measured, where that can be had.
    """
    drawn = list(tried(space, _DRAWS))
    best, found = optimizer or "layca", None
    for trial, config in drawn:
        base = str(config.get("optimizer"))
        if not _is_layca(config) or (base != best and (optimizer or found)):
            continue
        for key in ("final_distance", "lr"):
            for name, range_ in trial.distributions.items():
                if not isinstance(range_, FloatDistribution) or key not in config:
                    continue
                if trial.params[name] == config[key] and name.endswith(key):
                    is_distance = key == "final_distance"
                    found = _axis(trial, name, range_, is_distance, base, _gate(drawn, trial))
                    if base == best:
                        return found
    return found


def first_of(space: Space, axis: Axis) -> dict[str, Any]:
    """Return the configuration that a study on the space begins with."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(axis.params(axis.ladder[0]))
    return suggest(space, study.ask())


def _axis(
    trial: optuna.Trial,
    name: str,
    range_: FloatDistribution,
    is_distance: bool,
    base: str,
    gate: Gate | None,
) -> Axis:
    wanted = _DISTANCES if is_distance else _RATES_WITH_ADAM if base == "layca-adam" else _RATES
    inside = [min(max(value, range_.low), range_.high) for value in wanted]
    others = {
        other: _preferred(other, range_of, trial.params[other])
        for other, range_of in trial.distributions.items()
        if other != name
    }
    return Axis(name, range_, is_distance, tuple(dict.fromkeys(inside)), others, gate)


def _gate(
    drawn: Sequence[tuple[optuna.Trial, dict[str, Any]]], holder: optuna.Trial
) -> Gate | None:
    """The first parameter of a trial with Layca whose choices say whether it is Layca."""
    for name, range_ in holder.distributions.items():
        if not isinstance(range_, CategoricalDistribution):
            continue
        with_it: set[int] = set()
        without: set[int] = set()
        for trial, config in drawn:
            if name in trial.params:
                chosen = int(range_.to_internal_repr(trial.params[name]))
                (with_it if _is_layca(config) else without).add(chosen)
        if without and not with_it & without:
            return Gate(name, tuple(range_.choices[chosen] for chosen in sorted(without)))
    return None


def _is_layca(config: Mapping[str, Any]) -> bool:
    return str(config.get("optimizer", "")).startswith("layca")


def _preferred(name: str, range_: BaseDistribution, drawn: Any) -> Any:
    for key, value in _PREFERRED.items():
        if name == key or name.endswith((f"_{key}", f"/{key}")):
            try:
                if range_._contains(range_.to_internal_repr(value)):
                    return value
            except (ValueError, TypeError):  # not a value of that kind
                pass
    return drawn
