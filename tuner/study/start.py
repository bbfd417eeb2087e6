"""The first trials of a study: a ladder of rotations, then steps between the best of its rungs.

Where a space sets the rotation itself (Layca, by its rate or by `final_distance`), that is the
coordinate in which few points cover what matters: on normalised convolutional nets the best runs
end near 1, on others nearer a third (docs/rotation-search.md). So the first trials stand on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study.record import START
from tuner.study.space import Space, suggest

STARTS = ("rotation", "random")

_DISTANCES = (0.95, 0.6, 0.3)
# Around the paper's optima, 3^-3 and with Adam's momentum 3^-5 (arXiv:1806.01603).
_RATES = (3**-2, 3**-3, 3**-4)
_RATES_WITH_ADAM = (3**-4, 3**-5, 3**-6)
_REFINEMENTS = 2
# How many trials of the sampler's own the ladder must have beaten before each refinement.
_BEATEN = 3
_DRAWS = 64
# Two points nearer than this are one: e^0.1 in -ln(1 - distance), or in the rate.
_SAME = 0.1
# Drawn alike, what else the space has is set to what the ladder's points were chosen with.
_PREFERRED: Mapping[str, Any] = {
    "schedule": "cosine",
    "momentum": 0.9,
    "batch_size": 128,
    "warmup_epochs": 0.0,
    "alpha": 0.0,
}
# A sampler that is to cover the space by itself is left to it.
_ALONE = ("random", "qmc")


@dataclass(frozen=True)
class First:
    """One of the first trials: its parameters, and which point of the coordinate it is."""

    params: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Axis:
    """The parameter of a space that sets the rotation, and what the others are while it moves.

    Attributes:
        name: of the parameter.
        range: that it is searched in.
        is_distance: whether it is a final distance, or else Layca's rate.
        ladder: the points to begin with, in their order.
        others: the other parameters.
    """

    name: str
    range: FloatDistribution
    is_distance: bool
    ladder: tuple[float, ...]
    others: Mapping[str, Any]

    def first(self, value: float, kind: str) -> First:
        """Return the trial at a point."""
        what = "a final distance of" if self.is_distance else "a rate of"
        return First({**self.others, self.name: value}, f"{kind}: {what} {value:.3g}")

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
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    best, found = optimizer or "layca", None
    for _ in range(_DRAWS):
        trial = study.ask()
        config = suggest(space, trial)
        base = str(config.get("optimizer", ""))
        if not base.startswith("layca") or (base != best and (optimizer or found)):
            continue
        for key in ("final_distance", "lr"):
            for name, range_ in trial.distributions.items():
                if not isinstance(range_, FloatDistribution) or key not in config:
                    continue
                if trial.params[name] == config[key] and name.endswith(key):
                    found = _axis(trial, name, range_, key == "final_distance", base)
                    if base == best:
                        return found
    return found


def first_of(space: Space, axis: Axis) -> dict[str, Any]:
    """Return the configuration that a study on the space begins with."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(axis.first(axis.ladder[0], "ladder").params)
    return suggest(space, study.ask())


def _axis(
    trial: optuna.Trial, name: str, range_: FloatDistribution, is_distance: bool, base: str
) -> Axis:
    wanted = _DISTANCES if is_distance else _RATES_WITH_ADAM if base == "layca-adam" else _RATES
    inside = [min(max(value, range_.low), range_.high) for value in wanted]
    others = {
        other: _preferred(other, range_of, trial.params[other])
        for other, range_of in trial.distributions.items()
        if other != name
    }
    return Axis(name, range_, is_distance, tuple(dict.fromkeys(inside)), others)


def _preferred(name: str, range_: BaseDistribution, drawn: Any) -> Any:
    for key, value in _PREFERRED.items():
        if name == key or name.endswith((f"_{key}", f"/{key}")):
            try:
                if range_._contains(range_.to_internal_repr(value)):
                    return value
            except (ValueError, TypeError):  # not a value of that kind
                pass
    return drawn


class RotationStart:
    """Says what the first trials of a study are; what it knows is in the study.

    Args:
        axis: the coordinate.
        direction: of the study.
    """

    def __init__(self, axis: Axis, direction: StudyDirection) -> None:
        self.axis = axis
        self._sign = 1 if direction == StudyDirection.MAXIMIZE else -1

    def next(self, trials: Sequence[FrozenTrial]) -> First | None:
        """Return the next of the first trials; None when the sampler is to suggest.

        The ladder's points come at once, then the sampler's. A refinement comes between these as
        long as one of the first trials leads, and once all before it have ended.
        """
        begun = [trial for trial in trials if START in trial.user_attrs]
        ladder = self.axis.ladder
        if len(begun) < len(ladder):
            return self.axis.first(ladder[len(begun)], "ladder")
        refined = len(begun) - len(ladder)
        ended = all(trial.state.is_finished() for trial in begun)
        if not ended or refined >= _REFINEMENTS or not self._leads(trials, refined + 1):
            return None
        place = self._refined(
            {
                self.axis.place(trial.params[self.axis.name]): self._sign * trial.value
                for trial in begun
                if trial.state == TrialState.COMPLETE and trial.value is not None
            }
        )
        return None if place is None else self.axis.first(self.axis.at(place), "refined")

    def _leads(self, trials: Sequence[FrozenTrial], times: int) -> bool:
        """Whether the best trial is one of the first, and has beaten enough of the sampler's."""
        beaten = [
            trial
            for trial in trials
            if START not in trial.user_attrs
            and trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        known = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = max(known, key=lambda trial: self._sign * (trial.value or 0.0), default=None)
        return best is not None and START in best.user_attrs and len(beaten) >= times * _BEATEN

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


def first_trials(
    space: Space, start: str | None, sampler: str | BaseSampler, direction: StudyDirection
) -> RotationStart | None:
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
    return None if axis is None else RotationStart(axis, direction)
