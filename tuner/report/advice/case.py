"""Advice, and what every rule sees of a study."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution

from tuner.report.advice.parameters import name_of
from tuner.report.advice.ranks import correlation, is_positive
from tuner.report.evidence import rotation_worth
from tuner.rotation import RotationTarget
from tuner.study.result import StudyResult, TrialResult

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
class Case:
    """A study as the rules see it.

    Attributes:
        result: the study.
        target: what its layers should reach. A study does not keep the job's own, so this is the
            default one.
        space: what may be suggested, by parameter.
        ended: its complete trials with a finite metric, best first.
    """

    result: StudyResult
    target: RotationTarget
    space: dict[str, BaseDistribution]
    ended: tuple[TrialResult, ...]

    @classmethod
    def of(cls, result: StudyResult) -> Case:
        return cls(
            result,
            RotationTarget(),
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
