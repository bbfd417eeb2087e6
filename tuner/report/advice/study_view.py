"""StudyView: a study as the rules of advice read it, and the relation of rates to rotation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)

from tuner.report.advice.rank_tests import correlation, is_positive
from tuner.report.evidence import rotation_worth
from tuner.rotation import RotationTarget
from tuner.study.result import StudyResult, TrialResult

Role = Literal["rate", "decay", "warmup", "alpha"]
Range = FloatDistribution | IntDistribution

_IS: dict[Role, Callable[[str], bool]] = {
    "rate": lambda name: name.endswith(("lr", "learning_rate")),
    "decay": lambda name: "weight_decay" in name or name in ("wd", "l2") or name.endswith("_wd"),
    "warmup": lambda name: "warmup" in name or "warm_up" in name,
    "alpha": lambda name: name == "alpha",
}


def role_of(name: str) -> Role | None:
    """Return the role of a parameter by the last part of its name, or None."""
    last = name.rpartition("/")[2].lower()
    return next((role for role, fits in _IS.items() if fits(last)), None)


def name_of(
    role: Role, params: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> str | None:
    """Return the name of a trial's first numeric parameter with this role and a known range."""
    return next(
        (
            name
            for name, value in params.items()
            if role_of(name) == role and name in space and _is_number(value)
        ),
        None,
    )


def position(distribution: Range, value: float) -> float:
    """Return the position of a value in its range: 0 at the low end, 1 at the high end.

    The scale is that of the search: logarithmic where the range is.
    """
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def value_at(distribution: Range, where: float) -> float:
    """Return the value at a position, which may be outside [0, 1]."""
    low, high = distribution.low, distribution.high
    if distribution.log:
        return float(math.exp(math.log(low) + where * (math.log(high) - math.log(low))))
    return float(low + where * (high - low))


def is_on_top(distribution: BaseDistribution, value: float) -> bool:
    """Return whether a value is in the top tenth of its range, or the largest choice."""
    if isinstance(distribution, CategoricalDistribution):
        return bool(value >= closest_value(distribution, math.inf))
    assert isinstance(distribution, Range)
    return position(distribution, value) >= 0.9


def closest_value(distribution: BaseDistribution, value: float, *, beyond: bool = False) -> Any:
    """Return the value of a distribution that is closest to a number, to three digits.

    With `beyond` the value may lie outside the range; only the type and the step are kept.
    """
    if isinstance(distribution, CategoricalDistribution):
        numbers: list[Any] = [choice for choice in distribution.choices if _is_number(choice)]
        # All numbers are equally far from infinity, so take the largest.
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


# With fewer complete trials only a nearly perfect order is significant at 95 %.
ENOUGH = 8
# From this distance on, ln(1 - distance) is mostly noise.
_ARRIVED = 0.999


@dataclass(frozen=True)
class Advice:
    """One change to try.

    Attributes:
        title: the change, in a few words.
        evidence: the observations in the study's trials, with numbers.
        action: how to make the change.
        params: all parameters of a trial that tests the change; None if no trial of the study can
            test it. They are inside the space, except in advice to widen a range.
        config: config entries of that trial that override the space.
    """

    title: str
    evidence: str
    action: str
    params: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, Any] | None:
        """The configuration to show; see `TrialResult.setting`."""
        return None if self.params is None else {**self.params, **self.config}


@dataclass(frozen=True)
class StudyView:
    """A study, as the rules of advice read it.

    Attributes:
        result: the study.
        target: the rotation target of the study.
        space: the distribution of each parameter.
        ended: the complete trials with a finite metric, best first.
    """

    result: StudyResult
    target: RotationTarget
    space: dict[str, BaseDistribution]
    ended: tuple[TrialResult, ...]

    @classmethod
    def of(cls, result: StudyResult) -> StudyView:
        """Return the view of a study."""
        return cls(
            result,
            result.rotation_target,
            _space(result.space),
            tuple(
                trial
                for trial in result.ranked
                if trial.state == "complete" and math.isfinite(trial.value)
            ),
        )

    @property
    def best(self) -> tuple[TrialResult, ...]:
        """The best quarter of the complete trials, at least three; empty with fewer than three."""
        count = max(3, len(self.ended) // 4)
        return self.ended[:count] if len(self.ended) >= 3 else ()

    @cached_property
    def learnt(self) -> tuple[TrialResult, ...]:
        """The complete trials with rotation whose train loss fell, best first.

        Rotation without learning would distort the rules.
        """
        return tuple(
            trial
            for trial in self.ended
            if not math.isnan(self.turned(trial)) and _has_learnt(trial)
        )

    @cached_property
    def rotation_ranks(self) -> bool:
        """Whether trials that turned further are significantly better."""
        rho = self.rotation_rho
        return self.rotation_may_tell and is_positive(rho, len(self.learnt))

    @cached_property
    def rotation_rho(self) -> float:
        """The rank correlation of rotation and metric over the trials of `learnt`."""
        return correlation(
            [self.turned(trial) for trial in self.learnt], [self.score(t) for t in self.learnt]
        )

    @cached_property
    def rotation_may_tell(self) -> bool:
        """Whether enough trials have rotation, and `rotation_worth` is not "not informative"."""
        if len(self.learnt) < ENOUGH:
            return False
        worth = rotation_worth(self.result)
        return worth is not None and worth.says != "not informative"

    def score(self, trial: TrialResult) -> float:
        """Return the metric, with its sign turned if less is better."""
        return trial.value if self.result.mode == "max" else -trial.value

    def turned(self, trial: TrialResult, report: int = -1) -> float:
        """Return how far a trial's layers had turned at a report; NaN if unknown.

        See `RotationTarget.reached`.
        """
        curve = trial.curve
        if not curve.layers or not len(curve):
            return math.nan
        return self.target.reached(curve.distances[report], curve.layers)

    def rate(self, trial: TrialResult) -> tuple[str, float] | None:
        """Return the name and value of the trial's learning rate, or None if it is not searched."""
        name = name_of("rate", trial.params, self.space)
        return None if name is None else (name, float(trial.params[name]))

    def typical(self, trials: Sequence[TrialResult]) -> float:
        """Return the median rotation of some trials."""
        return median(self.turned(trial) for trial in trials)


def s_of(distance: float) -> float:
    """Return `s = -ln(1 - d)`, which grows as a power of the learning rate spent so far."""
    return -math.log1p(-min(distance, _ARRIVED))


def _has_learnt(trial: TrialResult) -> bool:
    losses = [loss for loss in trial.curve.train_loss if not math.isnan(loss)]
    return len(losses) < 2 or losses[-1] < losses[0]


def _space(text: str) -> dict[str, BaseDistribution]:
    """Return the distributions of a space; empty where another program wrote the study."""
    try:
        return {name: json_to_distribution(field) for name, field in json.loads(text).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


# The largest factor by which advice changes a rate at once.
_MOST = 10.0
# An exponent is fitted to at least _ENOUGH trials. Their highest rate is at least _SPREAD times the
# lowest, and the correlation is at least _TIGHT.
_ENOUGH, _SPREAD, _TIGHT = 6, 4.0, 0.6
# Weights that move in one direction have an exponent of 2. Slow layers have less than 1. An
# exponent outside these bounds is noise.
_EXPONENTS = (0.5, 2.5)


@dataclass(frozen=True)
class Relation:
    """How rotation grows with the learning rate: `s = -ln(1 - d)` as the rate to a power.

    Attributes:
        exponent: the power; 1 if the trials do not determine it.
        trials: the number of trials that it was fitted to; 0 if none.
    """

    exponent: float
    trials: int

    def factor(self, now: float, goal: float) -> float:
        """Return the factor of the rate, in [1, 10], that takes the distance `now` to `goal`."""
        ratio = s_of(goal) / max(s_of(now), 1e-6)
        return float(min(max(ratio ** (1 / self.exponent), 1.0), _MOST))

    @property
    def words(self) -> str:
        """The origin of the factor, in words."""
        if not self.trials:
            return "assuming that -ln(1 - distance) is proportional to the learning rate"
        return (
            f"in {self.trials} trials -ln(1 - distance) grows as the rate to the power "
            f"{self.exponent:.1f}"
        )


def relation(view: StudyView, name: str) -> Relation:
    """Return the relation of rotation to the rate called `name`."""
    trials = [trial for trial in view.learnt if trial.params.get(name)]
    return _fitted([(trial.params[name], view.turned(trial)) for trial in trials])


def layer_relation(trials: Sequence[TrialResult], name: str, layer: str) -> Relation:
    """Return the relation of one layer's rotation to the rate called `name`."""
    return _fitted(
        [
            (trial.params[name], trial.rotation[layer])
            for trial in trials
            if trial.params.get(name) and layer in trial.rotation
        ]
    )


def _fitted(pairs: Sequence[tuple[float, float]]) -> Relation:
    moved = [(rate, s_of(distance)) for rate, distance in pairs if distance > 0]
    unknown = Relation(1.0, 0)
    if len(moved) < _ENOUGH:
        return unknown
    rates, turned = np.log(np.array(moved)).T
    if rates.max() - rates.min() < math.log(_SPREAD) or not turned.std():
        return unknown
    if np.corrcoef(rates, turned)[0, 1] < _TIGHT:
        return unknown
    slope = float(np.polyfit(rates, turned, 1)[0])
    return Relation(min(max(slope, _EXPONENTS[0]), _EXPONENTS[1]), len(moved))
