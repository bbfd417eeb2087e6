"""StudyView: what every rule of advice reads of a study."""

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


# Fewer complete trials show nothing by ranks at 95 % that is not nearly perfect.
ENOUGH = 8
# Beyond this a distance is a quarter turn, and its logarithm only noise.
_ARRIVED = 0.999


@dataclass(frozen=True)
class Advice:
    """One thing to try.

    Attributes:
        title: what to do, in a few words.
        evidence: what the study's own trials show, with their numbers.
        action: how to do it.
        params: a full configuration that tests it, or None where no configuration of the study can.
            It is inside of the space but for advice on a range, whose action then says so.
        config: with params, config entries that go over what the space makes of these.
    """

    title: str
    evidence: str
    action: str
    params: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, Any] | None:
        """The configuration as it is shown, as `TrialResult.setting`."""
        return None if self.params is None else {**self.params, **self.config}


@dataclass(frozen=True)
class StudyView:
    """A study as the rules see it.

    Attributes:
        result: the study.
        target: what its layers should reach.
        space: what may be suggested, by parameter.
        ended: its complete trials with a finite metric, best first.
    """

    result: StudyResult
    target: RotationTarget
    space: dict[str, BaseDistribution]
    ended: tuple[TrialResult, ...]

    @classmethod
    def of(cls, result: StudyResult) -> StudyView:
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
        """The best quarter of the complete trials, at least three; empty if there are fewer."""
        count = max(3, len(self.ended) // 4)
        return self.ended[:count] if len(self.ended) >= 3 else ()

    @cached_property
    def learnt(self) -> tuple[TrialResult, ...]:
        """The complete trials that have turned and learnt something, best first: the others turn
        without it."""
        return tuple(
            trial
            for trial in self.ended
            if not math.isnan(self.turned(trial)) and _has_learnt(trial)
        )

    @cached_property
    def rotation_ranks(self) -> bool:
        """Whether the trials that turned further have done better, by more than chance."""
        rho = self.rotation_rho
        return self.rotation_may_tell and is_positive(rho, len(self.learnt))

    @cached_property
    def rotation_rho(self) -> float:
        """How far the trials turned against their metric, as a rank correlation."""
        return correlation(
            [self.turned(trial) for trial in self.learnt], [self.score(t) for t in self.learnt]
        )

    @cached_property
    def rotation_may_tell(self) -> bool:
        """Whether there is enough rotation to learn from, not yet found to say nothing here."""
        if len(self.learnt) < ENOUGH:
            return False
        worth = rotation_worth(self.result)
        return worth is not None and worth.says != "not informative"

    def score(self, trial: TrialResult) -> float:
        """The metric, the more the better."""
        return trial.value if self.result.mode == "max" else -trial.value

    def turned(self, trial: TrialResult, report: int = -1) -> float:
        """How far the layers that count have come at a report, in units of the target; NaN if
        unknown."""
        curve = trial.curve
        if not curve.layers or not len(curve):
            return math.nan
        return self.target.reached(curve.distances[report], curve.layers)

    def rate(self, trial: TrialResult) -> tuple[str, float] | None:
        """Return the name and value of the trial's learning rate, if one is searched."""
        name = name_of("rate", trial.params, self.space)
        return None if name is None else (name, float(trial.params[name]))

    def typical(self, trials: Sequence[TrialResult]) -> float:
        """The median of how far the trials have turned."""
        return median(self.turned(trial) for trial in trials)


def s_of(distance: float) -> float:
    """Return `s = -ln(1 - d)`, which grows as a power of the learning rate spent."""
    return -math.log1p(-min(distance, _ARRIVED))


def _has_learnt(trial: TrialResult) -> bool:
    losses = [loss for loss in trial.curve.train_loss if not math.isnan(loss)]
    return len(losses) < 2 or losses[-1] < losses[0]


def _space(text: str) -> dict[str, BaseDistribution]:
    """A study made elsewhere has no space, or means something else by the attribute's name."""
    try:
        return {name: json_to_distribution(field) for name, field in json.loads(text).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


# No advice to change a rate by more than this at once.
_MOST = 10.0
# Fewer trials, rates closer together or a looser relation than this give no exponent.
_ENOUGH, _SPREAD, _TIGHT = 6, 4.0, 0.6
# Motion in one direction has an exponent of 2, of the rate as of the clock; slow layers have less
# than 1. Anything else is noise.
_EXPONENTS = (0.5, 2.5)


@dataclass(frozen=True)
class Relation:
    """`s = -ln(1 - d)` grows as the learning rate to the power `exponent`, over `trials` trials;
    in proportion to it, as a forecast begins with, where they do not tell."""

    exponent: float
    trials: int

    def factor(self, now: float, wanted: float) -> float:
        """Return what to multiply the rate by to come from one distance to another, in
        [1, 10]."""
        ratio = s_of(wanted) / max(s_of(now), 1e-6)
        return float(min(max(ratio ** (1 / self.exponent), 1.0), _MOST))

    @property
    def words(self) -> str:
        """Return where the factor is from."""
        if not self.trials:
            return "taking -ln(1 - distance) to grow with the learning rate"
        return (
            f"in {self.trials} trials -ln(1 - distance) grows as the rate to the power "
            f"{self.exponent:.1f}"
        )


def relation(case: StudyView, name: str) -> Relation:
    """Return how rotation goes with the rate called `name`, over the trials that have it."""
    trials = [trial for trial in case.learnt if trial.params.get(name)]
    return _fitted([(trial.params[name], case.turned(trial)) for trial in trials])


def layer_relation(trials: Sequence[TrialResult], name: str, layer: str) -> Relation:
    """Return how one layer's rotation goes with the rate called `name`."""
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
