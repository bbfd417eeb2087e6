"""One layer stays behind the others in the best trials, and it matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from optuna.distributions import BaseDistribution

from tuner.report.advice.case import ENOUGH, Advice, Case, s_of
from tuner.report.advice.further import GOAL
from tuner.report.advice.parameters import fitting, name_of
from tuner.report.advice.ranks import correlation, is_positive
from tuner.report.advice.relation import layer_relation
from tuner.study.result import TrialResult

# Behind is who comes to less than this share of what the other layers do.
_SHARE = 0.5
# How many of the best trials must show it.
_MOST = 0.75
# Where the others have hardly turned either, all are to turn further, not one.
_OTHERS_TURNED = 0.3
# A layer that stays behind is news; a third of them is how the network is.
_FEW = 1 / 3
_CANDIDATES = [round(-0.95 + 0.05 * step, 2) for step in range(39)]


def layer_behind(case: Case) -> Iterator[Advice]:
    """Yield the advice to raise the rate of a layer that stays behind, the furthest one first."""
    if not case.rotation_may_tell:
        return
    layers = case.best[0].curve.layers
    alike = [trial for trial in case.learnt if trial.curve.layers == layers]
    best = [trial for trial in case.best if trial in alike]
    if len(best) < 3 or len(alike) < ENOUGH:
        return
    units = {
        layer: 1 / bar
        for layer, bar in zip(layers, case.target.bars(layers), strict=True)
        if not math.isnan(bar) and all(layer in trial.rotation for trial in alike)
    }
    if len(units) < 3:
        return
    behind = {
        layer: median(trial.rotation[layer] * units[layer] for trial in best)
        for layer in units
        if sum(_is_behind(trial, layer, units) for trial in best) >= _MOST * len(best)
    }
    if not 0 < len(behind) <= _FEW * len(units):
        return
    for layer, reached in sorted(behind.items(), key=lambda item: item[1]):
        rho = correlation(
            [trial.rotation[layer] for trial in alike], [case.score(trial) for trial in alike]
        )
        if reached < case.target.floor and is_positive(rho, len(alike)):
            yield _advice(case, layer, units, best, alike, rho)


def _is_behind(trial: TrialResult, layer: str, units: Mapping[str, float]) -> bool:
    others = _others(trial, layer, units)
    return others >= _OTHERS_TURNED and trial.rotation[layer] * units[layer] < _SHARE * others


def _others(trial: TrialResult, layer: str, units: Mapping[str, float]) -> float:
    return median([trial.rotation[other] * units[other] for other in units if other != layer])


def _advice(
    case: Case,
    layer: str,
    units: Mapping[str, float],
    best: list[TrialResult],
    alike: list[TrialResult],
    rho: float,
) -> Advice:
    leader = best[0]
    reached = median(trial.rotation[layer] for trial in best)
    peers = median(_others(trial, layer, units) for trial in best) / units[layer]
    rate = case.rate(leader)
    how = layer_relation(alike, rate[0] if rate else "", layer)
    factor = how.factor(reached, min(peers, 1.0))
    params = _by_alpha(leader, layer, units, how.exponent, case.space)
    if params is not None:
        name = name_of("alpha", leader.params, case.space)
        assert name is not None
        what = (
            f"{name} {leader.params[name]:g} -> {params[name]:g} in trial {leader.number}'s "
            f"configuration, which shifts rotation towards it; it would take {factor:.1f} times "
            f"the others' rate ({how.words})"
        )
    else:
        what = (
            f"give it {factor:.1f} times the rate of the others ({how.words}): a parameter group "
            f"of its own, or under Layca layer_rates={{{layer!r}: {factor:.1f}}}"
        )
    return Advice(
        title=f"{layer} stays behind: raise its rate",
        evidence=(
            f"in the best {len(best)} trials it ends at {reached:.2f} where the others come to "
            f"{peers:.2f}; over {len(alike)} trials its rotation goes with a better "
            f"{case.result.metric} (rank correlation {rho:.2f})"
        ),
        action=what,
        params=params,
    )


def _by_alpha(
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
