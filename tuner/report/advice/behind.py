"""Layers stay behind the others in the best trials, and it matters.

Under Layca all of them get rates of their own in one trial. Where it does not matter nothing is
advised: in most networks bringing layers to the others' distance does harm (docs/log.md,
2026-11-25).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tuner.report.advice.alpha import with_alpha
from tuner.report.advice.case import ENOUGH, Advice, Case
from tuner.report.advice.further import GOAL
from tuner.report.advice.parameters import name_of
from tuner.report.advice.ranks import correlation, correlation_given, is_positive
from tuner.report.advice.relation import layer_relation
from tuner.rotation.levelling import levelling_rates
from tuner.study.result import TrialResult

# Behind is who comes to less than this share of what the other layers do.
_SHARE = 0.5
# How many of the best trials must show it.
_MOST = 0.75
# Where the others have hardly turned either, all are to turn further, not one.
_OTHERS_TURNED = 0.3
# A layer that stays behind is news; a third of them is how the network is.
_FEW = 1 / 3
_RATES = "layer_rates"


@dataclass(frozen=True)
class _Behind:
    """A layer that stays behind: where it ends in the best trials, where it would if it came as
    far as the others, and the rank correlation of its rotation with the metric, among all trials
    and among those whose other layers turn alike."""

    layer: str
    reached: float
    peers: float
    rho: float
    alone: float


def layer_behind(case: Case) -> Iterator[Advice]:
    """Yield the advice to raise the rate of layers that stay behind, the furthest one first."""
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
    found = _behind(case, best, alike, units) if len(units) >= 3 else []
    leader = best[0]
    if not leader.optimizer.startswith("layca") or name_of("alpha", leader.params, case.space):
        for each in found:
            yield _one_by_one(case, each, units, best, alike)
    elif piece := _at_once(case, found, units, best, alike):
        yield piece


def _behind(
    case: Case,
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
    units: Mapping[str, float],
) -> list[_Behind]:
    """Return the layers that stay behind and matter, the furthest first; none if they are many."""
    behind = [
        layer
        for layer in units
        if sum(_is_behind(trial, layer, units) for trial in best) >= _MOST * len(best)
    ]
    if len(behind) > _FEW * len(units):
        return []
    scores = [case.score(trial) for trial in alike]
    found = []
    for layer in behind:
        turned = [trial.rotation[layer] for trial in alike]
        others = [_others(trial, layer, units) for trial in alike]
        found.append(
            _Behind(
                layer,
                median(trial.rotation[layer] for trial in best),
                median(_others(trial, layer, units) for trial in best) / units[layer],
                correlation(turned, scores),
                correlation_given(turned, scores, others),
            )
        )
    return sorted(
        (
            each
            for each in found
            if each.reached * units[each.layer] < case.target.floor
            and is_positive(min(each.rho, each.alone), len(alike))
        ),
        key=lambda each: each.reached * units[each.layer],
    )


def _is_behind(trial: TrialResult, layer: str, units: Mapping[str, float]) -> bool:
    others = _others(trial, layer, units)
    return others >= _OTHERS_TURNED and trial.rotation[layer] * units[layer] < _SHARE * others


def _others(trial: TrialResult, layer: str, units: Mapping[str, float]) -> float:
    return median([trial.rotation[other] * units[other] for other in units if other != layer])


def _at_once(
    case: Case,
    found: Sequence[_Behind],
    units: Mapping[str, float],
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
) -> Advice | None:
    """Return the advice to give all of them, in the leader, the rates that bring them to where the
    others end in it; None where they are there."""
    leader = best[0]
    now = leader.config.get(_RATES, {})
    rates: dict[str, float] = {}
    for each in found:
        level = min(_others(leader, each.layer, units) / units[each.layer], GOAL)
        rates |= levelling_rates({each.layer: leader.rotation[each.layer]}, level, now)
    told = [each for each in found if each.layer in rates]
    if not told:
        return None
    names = " and ".join(each.layer for each in told)
    return Advice(
        title=f"{names} {'stay' if len(told) > 1 else 'stays'} behind: raise "
        f"{'their rates' if len(told) > 1 else 'its rate'}",
        evidence="; ".join(_seen(case, each, best, alike) for each in told),
        action=(
            f"{_RATES}={rates} in trial {leader.number}'s configuration, for them to come to where "
            "the others end; the space has no parameter for it"
        ),
        params=leader.params,
        config={**leader.config, _RATES: {**now, **rates}},
    )


def _one_by_one(
    case: Case,
    each: _Behind,
    units: Mapping[str, float],
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
) -> Advice:
    leader, layer = best[0], each.layer
    rate = case.rate(leader)
    how = layer_relation(alike, rate[0] if rate else "", layer)
    factor = how.factor(each.reached, min(each.peers, 1.0))
    params = with_alpha(leader, layer, units, how.exponent, case.space)
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
            f"of its own, or under Layca {_RATES}={{{layer!r}: {factor:.1f}}}"
        )
    return Advice(
        title=f"{layer} stays behind: raise its rate",
        evidence=_seen(case, each, best, alike),
        action=what,
        params=params,
        config=leader.config if params else {},
    )


def _seen(
    case: Case, each: _Behind, best: Sequence[TrialResult], alike: Sequence[TrialResult]
) -> str:
    return (
        f"in the best {len(best)} trials {each.layer} ends at {each.reached:.2f} where the others "
        f"come to {each.peers:.2f}; over {len(alike)} trials its rotation goes with a better "
        f"{case.result.metric} (rank correlation {each.rho:.2f}; {each.alone:.2f} where the others "
        "turn alike)"
    )
