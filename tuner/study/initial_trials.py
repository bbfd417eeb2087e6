"""The first trials of a study: a ladder of final rotations, where the space sets the rotation.

Layca controls the rotation of the layers, by its rate or by `final_distance`. A few values of that
parameter cover the useful range: the best runs of normalised convolutional nets end near 1, and
those of other nets near a third (docs/rotation-search.md). So a study first tries a ladder of such
values. The results decide whether the sampler's first random draws use Layca again.
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

from tuner.storage.optuna_internals import is_in_range
from tuner.study.schema import START
from tuner.study.search_space import Space, probe_space, suggest

_DISTANCES = (0.95, 0.6, 0.3)
# Values around the paper's optima: 3^-3, and 3^-5 with Adam's momentum (arXiv:1806.01603).
_RATES = (3**-2, 3**-3, 3**-4)
_RATES_WITH_ADAM = (3**-4, 3**-5, 3**-6)
_DRAWS = 64
# The values of the other parameters with which the points of the ladder were chosen.
_PREFERRED: Mapping[str, Any] = {
    "schedule": "cosine",
    "momentum": 0.9,
    "batch_size": 128,
    "warmup_epochs": 0.0,
    "alpha": 0.0,
}


@dataclass(frozen=True)
class OptimizerChoice:
    """The parameter of a space that decides whether a trial trains with Layca.

    Attributes:
        name: the name of the categorical parameter.
        others: its choices without Layca, in the order of the space; at least one.
    """

    name: str
    others: tuple[Any, ...]


@dataclass(frozen=True)
class RotationParameter:
    """The parameter of a space that sets the rotation, with fixed values of the other parameters.

    Attributes:
        name: the name of the parameter.
        range: the range that the space searches.
        is_distance: True for a final distance, False for Layca's rate.
        ladder: the values of the first trials, in order.
        others: the other parameters.
        optimizer_choice: the parameter that decides whether a trial uses Layca; None if every
            trial uses it.
    """

    name: str
    range: FloatDistribution
    is_distance: bool
    ladder: tuple[float, ...]
    others: Mapping[str, Any]
    optimizer_choice: OptimizerChoice | None

    def params(self, value: float) -> dict[str, Any]:
        """Return the parameters of the trial with this value."""
        return {**self.others, self.name: value}

    def position(self, value: float) -> float:
        """Return the position of a value on the refinement scale.

        The position is ln(-ln(1 - value)) for a distance, and ln(value) for a rate.
        """
        return math.log(-math.log1p(-value)) if self.is_distance else math.log(value)

    def value_at(self, position: float) -> float:
        """Return the value at a position, clipped to the range."""
        value = -math.expm1(-math.exp(position)) if self.is_distance else math.exp(position)
        return min(max(value, self.range.low), self.range.high)


def find_rotation_parameter(space: Space, optimizer: str | None = None) -> RotationParameter | None:
    """Return the parameter of a space that sets the rotation, or None.

    In configurations with a Layca optimizer its value is the `final_distance` or the `lr`.

    Args:
        space: the search space.
        optimizer: the name of one Layca optimizer. By default Layca over SGD is preferred, because
            the ladder was measured with it.
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
                    choice = _optimizer_choice(drawn, trial)
                    found = _parameter(trial, name, range_, is_distance, base, choice)
                    if base == best:
                        return found
    return found


def first_config(space: Space, parameter: RotationParameter) -> dict[str, Any]:
    """Return the configuration of the first trial of a study.

    Args:
        space: the search space.
        parameter: the parameter of the space that sets the rotation.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(parameter.params(parameter.ladder[0]))
    return suggest(space, study.ask())


def _parameter(
    trial: optuna.Trial,
    name: str,
    range_: FloatDistribution,
    is_distance: bool,
    base: str,
    optimizer_choice: OptimizerChoice | None,
) -> RotationParameter:
    points = _DISTANCES if is_distance else _RATES_WITH_ADAM if base == "layca-adam" else _RATES
    inside = [min(max(value, range_.low), range_.high) for value in points]
    others = {
        other: _preferred(other, range_of, trial.params[other])
        for other, range_of in trial.distributions.items()
        if other != name
    }
    return RotationParameter(
        name, range_, is_distance, tuple(dict.fromkeys(inside)), others, optimizer_choice
    )


def _optimizer_choice(
    drawn: Sequence[tuple[optuna.Trial, dict[str, Any]]], with_layca: optuna.Trial
) -> OptimizerChoice | None:
    """Return the first categorical parameter whose choices decide whether a trial uses Layca.

    `with_layca` is a trial with Layca.
    """
    for name, range_ in with_layca.distributions.items():
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
                if is_in_range(range_, value):
                    return value
            except (ValueError, TypeError):  # the distribution holds values of another type
                pass
    return drawn


STARTS = ("rotation", "random")

_REFINEMENTS = 2
# Before each refinement this many more trials of the sampler must have been worse than the ladder.
_BEATEN = 3
# Optuna's samplers draw at random until this many trials have ended.
_STARTUP = 10
# Two points closer than this count as one: a factor of e^0.1 in -ln(1 - distance) or in the rate.
_SAME = 0.1
# Users choose these samplers to cover the space evenly. A ladder would disturb that.
_ALONE = ("random", "qmc")


@dataclass(frozen=True)
class FixedParams:
    """Parameters that are fixed before the sampler suggests the rest of a trial.

    Attributes:
        params: all parameters of the trial, or only those that the sampler must not choose.
        why: the point of the ladder, or the refinement, that the trial tests; empty for a trial of
            the sampler.
    """

    params: dict[str, Any]
    why: str = ""


class InitialTrials:
    """Chooses the first trials of a study. It has no state of its own: it reads the trials.

    Args:
        parameter: the parameter that sets the rotation.
        direction: the direction of the study.
    """

    def __init__(self, parameter: RotationParameter, direction: StudyDirection) -> None:
        self.parameter = parameter
        self._sign = 1 if direction == StudyDirection.MAXIMIZE else -1

    def next(self, trials: Sequence[FrozenTrial]) -> FixedParams | None:
        """Return the fixed parameters of the next trial; None if the sampler suggests all.

        The ladder comes first, then trials of the sampler. While a point of the ladder or a
        refinement is the best trial, further refinements come between the sampler's trials. Each
        refinement starts after all points and refinements before it have ended. While none of them
        is the best, the random draws of the sampler leave Layca out: the ladder has covered it.

        Args:
            trials: all trials of the study.
        """
        begun = [trial for trial in trials if START in trial.user_attrs]
        rungs = self.parameter.ladder
        if len(begun) < len(rungs):
            return self._at(rungs[len(begun)], "ladder")
        beaten = self._beaten(trials)
        return self._refinement(begun, beaten) if beaten else self._without_layca(trials)

    def _at(self, value: float, kind: str) -> FixedParams:
        what = "a final distance of" if self.parameter.is_distance else "a rate of"
        return FixedParams(self.parameter.params(value), f"{kind}: {what} {value:.3g}")

    def _beaten(self, trials: Sequence[FrozenTrial]) -> int:
        """Return the number of ended trials of the sampler; 0 if one of them is the best."""
        known = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = max(known, key=lambda trial: self._sign * (trial.value or 0.0), default=None)
        if best is None or START not in best.user_attrs:
            return 0
        return sum(_has_ended(trial) and START not in trial.user_attrs for trial in trials)

    def _without_layca(self, trials: Sequence[FrozenTrial]) -> FixedParams | None:
        """Return the choice without Layca that the fewest trials have made."""
        optimizer_choice = self.parameter.optimizer_choice
        if optimizer_choice is None or sum(map(_has_ended, trials)) >= _STARTUP:
            return None
        made = Counter(
            str(trial.params[optimizer_choice.name])
            for trial in trials
            if optimizer_choice.name in trial.params
        )
        return FixedParams(
            {
                optimizer_choice.name: min(
                    optimizer_choice.others, key=lambda choice: made[str(choice)]
                )
            }
        )

    def _refinement(self, begun: Sequence[FrozenTrial], beaten: int) -> FixedParams | None:
        refined = len(begun) - len(self.parameter.ladder)
        ended = all(trial.state.is_finished() for trial in begun)
        if not ended or refined >= _REFINEMENTS or beaten < (refined + 1) * _BEATEN:
            return None
        position = self._refined(
            {
                self.parameter.position(trial.params[self.parameter.name]): self._sign * trial.value
                for trial in begun
                if trial.state == TrialState.COMPLETE and trial.value is not None
            }
        )
        return None if position is None else self._at(self.parameter.value_at(position), "refined")

    def _refined(self, known: Mapping[float, float]) -> float | None:
        """Return the next position to try, from the scores of the known positions.

        It lies between the best position and the better of its neighbours. If the best position is
        at an end, the next one lies beyond it where the range allows that. The result is None with
        fewer than two known positions, or if all candidates are known.
        """
        positions = sorted(known)
        if len(positions) < 2:
            return None
        best = max(positions, key=known.__getitem__)
        at = positions.index(best)
        beside = [positions[i] for i in (at - 1, at + 1) if 0 <= i < len(positions)]
        between = (best + max(beside, key=known.__getitem__)) / 2
        candidates = [between]
        if len(beside) == 1:
            beyond = self.parameter.position(self.parameter.value_at(best + (best - beside[0]) / 2))
            candidates.insert(0, beyond)
        for candidate in candidates:
            if all(abs(candidate - position) > _SAME for position in positions):
                return candidate
        return None


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def first_trials(
    space: Space, start: str | None, sampler: str | BaseSampler, direction: StudyDirection
) -> InitialTrials | None:
    """Return the object that chooses a study's first trials; None if the sampler suggests all.

    Args:
        space: the search space.
        start: "rotation" or "random". Default: "rotation", except with the samplers "random" and
            "qmc" or a sampler instance, where it is "random".
        sampler: the sampler of the job.
        direction: the direction of the study.
    """
    alone = isinstance(sampler, BaseSampler) or sampler in _ALONE
    if start == "random" or (start is None and alone):
        return None
    parameter = find_rotation_parameter(space)
    return None if parameter is None else InitialTrials(parameter, direction)
