"""The value of alpha, the paper's rule for the layers' rates, that helps a layer behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution

from tuner.report.advice.case import s_of
from tuner.report.advice.further import GOAL
from tuner.report.advice.parameters import fitting, name_of
from tuner.study.result import TrialResult

_CANDIDATES = [round(-0.95 + 0.05 * step, 2) for step in range(39)]


def with_alpha(
    leader: TrialResult,
    layer: str,
    units: Mapping[str, float],
    exponent: float,
    space: Mapping[str, BaseDistribution],
) -> dict[str, Any] | None:
    """Return the leader's configuration with the alpha that brings the layers closest together,
    or None if none is searched, or another would not help this one."""
    if (name := name_of("alpha", leader.params, space)) is None:
        return None
    layers, now = leader.curve.layers, float(leader.params[name])
    before = _multipliers(now, layers)

    def shortfall(alpha: float) -> float:
        rates = _multipliers(alpha, layers)
        turned: list[float] = [
            s_of(leader.rotation[other]) * (rates[other] / before[other]) ** exponent
            for other in units
        ]
        return math.fsum(max(0.0, s_of(GOAL) - s) ** 2 for s in turned)

    spread = space[name]
    chosen = min({fitting(spread, alpha) for alpha in _CANDIDATES}, key=shortfall)
    rates = _multipliers(float(chosen), layers)
    if rates[layer] / max(rates.values()) <= before[layer] / max(before.values()):
        return None
    return {**leader.params, name: chosen}


def _multipliers(alpha: float, layers: tuple[str, ...]) -> dict[str, float]:
    """Each layer's share of the rate under Layca (arXiv:1806.01603, section 4)."""
    last = max(1, len(layers) - 1)
    if alpha > 0:
        rates = [(1 - alpha) ** (5 * (last - at) / last) for at in range(len(layers))]
    else:
        rates = [(1 + alpha) ** (5 * at / last) for at in range(len(layers))]
    return dict(zip(layers, rates, strict=True))
