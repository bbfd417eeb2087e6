"""The first trials of a study: a ladder of final rotations, where the space sets the rotation.

Where a space sets the rotation itself the first trials stand on that coordinate. What they show
decides whether the sampler's own first draws go back to it.

Layca sets the rotation itself, by its rate or by `final_distance`. That is the coordinate in which
few points cover what matters: on normalised convolutional nets the best runs end near 1, on others
nearer a third (docs/rotation-search.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study.schema import START
from tuner.study.search_space import Space, probe_space, suggest

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
class OptimizerChoice:
    """The parameter of a space that says whether a trial is one with Layca.

    Attributes:
        name: of the categorical parameter.
        others: its choices without Layca, in the order of the space; at least one.
    """

    name: str
    others: tuple[Any, ...]


@dataclass(frozen=True)
class RotationParameter:
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
    gate: OptimizerChoice | None

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


def find_axis(space: Space, optimizer: str | None = None) -> RotationParameter | None:
    """Return the coordinate of a space that sets the rotation; None where it has none.

    It is the parameter that a configuration with an optimizer of Layca's kind hands on as
    `final_distance`, or as `lr`. If not one `optimizer` is asked for, it is Layca over SGD, as
    measured, where that can be had.
    """
    drawn = list(probe_space(space, _DRAWS))
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


def first_of(space: Space, axis: RotationParameter) -> dict[str, Any]:
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
    gate: OptimizerChoice | None,
) -> RotationParameter:
    wanted = _DISTANCES if is_distance else _RATES_WITH_ADAM if base == "layca-adam" else _RATES
    inside = [min(max(value, range_.low), range_.high) for value in wanted]
    others = {
        other: _preferred(other, range_of, trial.params[other])
        for other, range_of in trial.distributions.items()
        if other != name
    }
    return RotationParameter(name, range_, is_distance, tuple(dict.fromkeys(inside)), others, gate)


def _gate(
    drawn: Sequence[tuple[optuna.Trial, dict[str, Any]]], holder: optuna.Trial
) -> OptimizerChoice | None:
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
            return OptimizerChoice(
                name, tuple(range_.choices[chosen] for chosen in sorted(without))
            )
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


STARTS = ("rotation", "random")

_REFINEMENTS = 2
# How many trials of the sampler's own the ladder must have beaten before each refinement.
_BEATEN = 3
# Until so many trials have ended Optuna's samplers draw at random.
_STARTUP = 10
# Two points nearer than this are one: e^0.1 in -ln(1 - distance), or in the rate.
_SAME = 0.1
# A sampler that is to cover the space by itself is left to it.
_ALONE = ("random", "qmc")


@dataclass(frozen=True)
class FixedParams:
    """Parameters that are set before a trial is suggested.

    Attributes:
        params: all of them, or those without which the sampler is not to draw.
        why: which point of the coordinate the trial is; empty where the sampler draws.
    """

    params: dict[str, Any]
    why: str = ""


class InitialTrials:
    """Says what the first trials of a study are; what it knows is in the study.

    Args:
        axis: the coordinate.
        direction: of the study.
    """

    def __init__(self, axis: RotationParameter, direction: StudyDirection) -> None:
        self.axis = axis
        self._sign = 1 if direction == StudyDirection.MAXIMIZE else -1

    def next(self, trials: Sequence[FrozenTrial]) -> FixedParams | None:
        """Return what is set of the next trial; None when all is for the sampler to suggest.

        The ladder's points come at once, then the sampler's trials. A refinement comes between
        these as long as one of the first trials leads, and once all before it have ended. While
        none leads, what the sampler draws at random goes elsewhere: the ladder has been there.
        """
        begun = [trial for trial in trials if START in trial.user_attrs]
        rungs = self.axis.ladder
        if len(begun) < len(rungs):
            return self._at(rungs[len(begun)], "ladder")
        beaten = self._beaten(trials)
        return self._refinement(begun, beaten) if beaten else self._elsewhere(trials)

    def _at(self, value: float, kind: str) -> FixedParams:
        what = "a final distance of" if self.axis.is_distance else "a rate of"
        return FixedParams(self.axis.params(value), f"{kind}: {what} {value:.3g}")

    def _beaten(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of the sampler's trials the first have beaten; 0 while none of these leads."""
        known = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = max(known, key=lambda trial: self._sign * (trial.value or 0.0), default=None)
        if best is None or START not in best.user_attrs:
            return 0
        return sum(_has_ended(trial) and START not in trial.user_attrs for trial in trials)

    def _elsewhere(self, trials: Sequence[FrozenTrial]) -> FixedParams | None:
        """A choice without Layca, the one that fewest trials have made."""
        gate = self.axis.gate
        if gate is None or sum(map(_has_ended, trials)) >= _STARTUP:
            return None
        made = Counter(
            str(trial.params[gate.name]) for trial in trials if gate.name in trial.params
        )
        return FixedParams({gate.name: min(gate.others, key=lambda choice: made[str(choice)])})

    def _refinement(self, begun: Sequence[FrozenTrial], beaten: int) -> FixedParams | None:
        refined = len(begun) - len(self.axis.ladder)
        ended = all(trial.state.is_finished() for trial in begun)
        if not ended or refined >= _REFINEMENTS or beaten < (refined + 1) * _BEATEN:
            return None
        place = self._refined(
            {
                self.axis.place(trial.params[self.axis.name]): self._sign * trial.value
                for trial in begun
                if trial.state == TrialState.COMPLETE and trial.value is not None
            }
        )
        return None if place is None else self._at(self.axis.at(place), "refined")

    def _refined(self, known: Mapping[float, float]) -> float | None:
        """Return the place between the best and the better of its neighbours, or beyond an end
        that is the best; None if that is known, or too little is."""
        places = sorted(known)
        if len(places) < 2:
            return None
        best = max(places, key=known.__getitem__)
        at = places.index(best)
        beside = [places[i] for i in (at - 1, at + 1) if 0 <= i < len(places)]
        between = (best + max(beside, key=known.__getitem__)) / 2
        candidates = [between]
        if len(beside) == 1:
            beyond = self.axis.place(self.axis.at(best + (best - beside[0]) / 2))
            candidates.insert(0, beyond)
        for candidate in candidates:
            if all(abs(candidate - place) > _SAME for place in places):
                return candidate
        return None


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def first_trials(
    space: Space, start: str | None, sampler: str | BaseSampler, direction: StudyDirection
) -> InitialTrials | None:
    """Return what suggests a study's first trials; None where the sampler does from the first.

    Args:
        space: the search space.
        start: "rotation" or "random"; None is for rotation, unless the sampler is to cover the
            space by itself: a random one, or an object of the user's own.
        sampler: of the job.
        direction: of the study.
    """
    alone = isinstance(sampler, BaseSampler) or sampler in _ALONE
    if start == "random" or (start is None and alone):
        return None
    axis = find_axis(space)
    return None if axis is None else InitialTrials(axis, direction)
