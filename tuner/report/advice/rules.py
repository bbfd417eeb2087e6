"""The rules of advice: each reads a study and proposes changes, with their evidence.

Rules read the study's own trials, and are silent where nothing is significant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution

from tuner.report.advice.rank_tests import (
    are_lower,
    chance_of,
    correlation,
    correlation_given,
    is_positive,
)
from tuner.report.advice.study_view import (
    ENOUGH,
    Advice,
    Range,
    StudyView,
    closest_value,
    is_on_top,
    layer_relation,
    name_of,
    position,
    relation,
    role_of,
    s_of,
    value_at,
)
from tuner.rotation import forecast
from tuner.rotation.rate import levelling_rates
from tuner.study.result import TrialResult


def turned_by_decay(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to lower the weight decay and raise the rate.

    Weight decay shrinks the norm of a layer, and each step turns a smaller layer further. A study
    does not store norms. But in the curves, this rotation speeds up per learning rate spent. The
    rule also applies where rotation does not rank the trials, since it may explain that.
    """
    trials = [trial for trial in view.learnt if _decay(view, trial) and view.rate(trial)]
    if len(trials) < ENOUGH:
        return
    turned = [view.turned(trial) for trial in trials]
    by_decay = correlation(turned, [_value(trial, _decay(view, trial)) for trial in trials])
    rates = _rates(view, trials)
    by_rate = correlation(turned, rates)
    by_score = correlation(turned, [view.score(trial) for trial in trials])
    count = len(trials)
    if not is_positive(by_decay, count) or is_positive(by_rate, count):
        return
    far = sorted(trials, key=view.turned, reverse=True)[: max(3, count // 4)]
    slow = _rates(view, far)
    speeding = sum(_speeds_up(view, trial) for trial in far)
    if is_positive(by_score, count) or median(slow) > median(rates) or 2 * speeding <= len(far):
        return
    leader = max(far, key=view.score)
    name, at = _decay(view, leader), view.rate(leader)
    assert name is not None
    assert at is not None
    rate_name, rate = at
    spread, rates_spread = view.space[name], view.space[rate_name]
    if not isinstance(spread, Range) or not isinstance(rates_spread, Range):
        return
    lower = closest_value(spread, float(leader.params[name]) / 10)
    raised = closest_value(rates_spread, max(rate, value_at(rates_spread, 0.5)))
    yield Advice(
        title=f"rotation comes from {name}, not from learning: lower it, and raise {rate_name}",
        evidence=(
            f"over {count} trials, rotation correlates with {name} (rank correlation "
            f"{by_decay:.2f}), but not with {rate_name} ({by_rate:.2f}) or with a better "
            f"{view.result.metric} ({by_score:.2f}); the {len(far)} trials that turned furthest "
            f"have a median {rate_name} of {median(slow):.3g}; in {speeding} of them the rotation "
            "speeds up, as it does in layers whose norm falls"
        ),
        action=f"{name} {leader.params[name]:.3g} -> {lower:.3g} and {rate_name} {rate:.3g} -> "
        f"{raised:.3g} in trial {leader.number}'s configuration; until then compare trials by "
        f"{view.result.metric}, not by rotation",
        params={**leader.params, name: lower, rate_name: raised},
        config=leader.config,
    )


def _decay(view: StudyView, trial: TrialResult) -> str | None:
    return name_of("decay", trial.params, view.space)


def _rates(view: StudyView, trials: list[TrialResult]) -> list[float]:
    return [rate[1] for trial in trials if (rate := view.rate(trial))]


def _value(trial: TrialResult, name: str | None) -> float:
    return float(trial.params[name or ""])


def _speeds_up(view: StudyView, trial: TrialResult) -> bool:
    """Return whether s grew faster in the second half of the learning rate spent so far."""
    curve = trial.curve
    spent = curve.lr_progress
    if any(math.isnan(share) for share in spent):
        spent = tuple(epoch / curve.max_epochs for epoch in curve.epochs)
    s = [s_of(view.turned(trial, report)) for report in range(len(curve))]
    half = float(np.interp(spent[-1] / 2, [0.0, *spent], [0.0, *s]))
    return s[-1] - half > half


_EARLY = 0.1  # share of the training
_MOST_EARLY = 0.5  # share of the rotation
# Share of the target. Rotation below this share is never too early.
_LEAST = 0.2


def turned_early(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to warm up the learning rate.

    The rule compares when layers turn, not how far. It also applies where rotation does not rank
    the trials: early rotation without learning may explain that.
    """
    known = [(trial, *_turns(view, trial)) for trial in view.ended]
    known = [(trial, early, whole) for trial, early, whole in known if not math.isnan(early)]
    if len(known) < ENOUGH:
        return
    too_early = [
        (trial, early, whole)
        for trial, early, whole in known
        if early > _LEAST * view.target.distance and early > _MOST_EARLY * whole
    ]
    others = [trial for trial, early, whole in known if early <= _MOST_EARLY * whole]
    scores = [view.score(trial) for trial, _, _ in too_early]
    if not are_lower(scores, [view.score(trial) for trial in others]):
        return
    found = _warmer(view, [trial for trial, _, _ in too_early])
    if found is None:
        return
    params, config, how = found
    share = median(early / whole for _, early, whole in too_early)
    metric = view.result.metric
    yield Advice(
        title="the layers turn too early: warm up",
        evidence=(
            f"{len(too_early)} trials make {share:.0%} of their rotation in the first tenth of the "
            f"training; their median {metric} is "
            f"{median(trial.value for trial, _, _ in too_early):.4g}; the median of the "
            f"{len(others)} other trials is {median(trial.value for trial in others):.4g}"
        ),
        action=how,
        params=params,
        config=config,
    )


def _turns(view: StudyView, trial: TrialResult) -> tuple[float, float]:
    """Return how far the layers had turned after a tenth of the training, and at its end."""
    curve = trial.curve
    turned = [view.turned(trial, report) for report in range(len(curve))]
    if not turned or any(math.isnan(distance) for distance in turned):
        return math.nan, math.nan
    after = np.interp(_EARLY * curve.max_epochs, [0.0, *curve.epochs], [0.0, *turned])
    return float(after), turned[-1]


def _warmer(
    view: StudyView, too_early: list[TrialResult]
) -> tuple[dict[str, Any] | None, dict[str, Any], str] | None:
    """Return the best of these trials with a warmup of a tenth of the training.

    The result is the trial's parameters, its config and the change in words. None if most of the
    trials already have about that warmup, since it then does not help.
    """
    epochs = _EARLY * view.result.max_epochs
    names = {name_of("warmup", trial.params, view.space) for trial in too_early}
    if names == {None}:
        how = f"raise the learning rate from 0 over the first {epochs:.2g} epochs"
        return None, {}, f"{how} (warmup_epochs in the config; this space has no parameter for it)"
    if len(names) > 1 or (name := names.pop()) is None:
        return None
    # The unit of a parameter without "epoch" in its name is unknown, so take its largest value.
    longer = closest_value(view.space[name], epochs if "epoch" in name else math.inf)
    short = [trial for trial in too_early if trial.params[name] <= longer / 2]
    if not short or len(short) < _MOST_EARLY * len(too_early):
        return None
    leader = short[0]
    return (
        {**leader.params, name: longer},
        leader.config,
        f"{name} {leader.params[name]:g} -> {longer:g} in trial {leader.number}'s configuration",
    )


_OUTER = 0.15  # the share of the range, on the scale of the search, that is its edge
# The share of the complete trials that are compared, at least three. With a random sampler 15 % of
# the trials are at an edge, which is too few to dominate the best quarter.
_BEST = 0.1
_MOST_AT_EDGE = 0.75  # share of the best trials
_BY_CHANCE = 0.01
# A log range grows by a quarter of its width, at least by this factor. Other ranges grow by half.
_QUARTER, _HALF, _LEAST_FACTOR = 0.25, 0.5, 3.0


def at_the_edge(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to widen a range, for each range with the best trials at its edge."""
    leading = view.best[: max(3, round(_BEST * len(view.ended)))]
    ended = [trial for trial in view.result.trials if trial.state in ("complete", "pruned")]
    for name, spread in sorted(view.space.items()):
        if not isinstance(spread, Range) or not spread.low < spread.high:
            continue
        best = [trial for trial in leading if name in trial.params]
        numbers = {trial.number for trial in best}
        rest = [t for t in ended if name in t.params and t.number not in numbers]
        if len(best) < 3 or len(best) + len(rest) < ENOUGH:
            continue
        for high in (True, False):
            edge = [trial for trial in best if _is_at(spread, trial.params[name], high)]
            # If all trials are at the edge, there is nothing to compare them with.
            elsewhere = sum(not _is_at(spread, trial.params[name], high) for trial in rest)
            by_chance = chance_of(len(edge), len(best), _chance(spread, high))
            if len(edge) < _MOST_AT_EDGE * len(best) or elsewhere < 3 or by_chance > _BY_CHANCE:
                continue
            if (found := _advice(view, name, spread, high, edge, best, elsewhere)) is not None:
                yield found


def _is_at(spread: Range, value: float, high: bool) -> bool:
    where = position(spread, value)
    return where >= 1 - _OUTER if high else where <= _OUTER


def _chance(spread: Range, high: bool) -> float:
    """Return the share of the values that are at the edge; it is large with few whole numbers."""
    if spread.step is None or spread.log:
        return _OUTER
    steps = round((spread.high - spread.low) / spread.step)
    values = [spread.low + step * spread.step for step in range(steps + 1)]
    return sum(_is_at(spread, value, high) for value in values) / len(values)


def _advice(
    view: StudyView,
    name: str,
    spread: Range,
    high: bool,
    edge: list[TrialResult],
    best: list[TrialResult],
    elsewhere: int,
) -> Advice | None:
    if not high and role_of(name) in ("decay", "warmup"):
        return None  # decay or warmup below a small value makes no difference
    wider = _wider(name, spread, high)
    if wider is None:
        return None
    side, end = ("upper", spread.high) if high else ("lower", spread.low)
    to, beyond = wider
    tested = closest_value(spread, beyond, beyond=True)
    values = sorted(
        {f"{trial.params[name]:.3g}": trial.params[name] for trial in edge}.items(),
        key=lambda item: item[1],
    )
    held = f"at {values[0][0]}" if len(values) == 1 else f"from {values[0][0]} to {values[-1][0]}"
    leader = edge[0]
    params = {**leader.params, name: tested}
    return Advice(
        title=f"the best {name} is at the {side} end of its range: widen it",
        evidence=(
            f"{len(edge)} of the best {len(best)} trials have {name} {held}, at the {side} end of "
            f"{spread.low:g} to {spread.high:g}; {elsewhere} trials away from that end are worse"
        ),
        action=(
            f"search {name} {'up' if high else 'down'} to {to:.3g}, not {end:g}, in a job with "
            f"another name (a study keeps its space); to test it in this study, take trial "
            f"{leader.number}'s configuration with {name}={tested:.3g}, which is outside the range"
        ),
        params=params,
        config=leader.config,
    )


def _wider(name: str, spread: Range, high: bool) -> tuple[float, float] | None:
    """Return the new end of a range, and a value to test beyond its edge.

    None if the end looks like a natural limit of the parameter, such as 0 or 1.
    """
    end = spread.high if high else spread.low
    if spread.log:
        by = max(_QUARTER, math.log(_LEAST_FACTOR) / math.log(spread.high / spread.low))
        wider = _places(spread, by, high)
    elif high and spread.low >= 0 and spread.high <= 1 and role_of(name) != "warmup":
        # A share, such as a momentum, may approach 1 but not reach it.
        wider = (1 - (1 - end) / 2, 1 - (1 - end) * 0.75)
    elif not high and spread.low >= 0:
        wider = (end / 2, end * 0.75)
    else:
        wider = _places(spread, _HALF, high)
    tested = float(closest_value(spread, wider[1], beyond=True))
    if spread.step is not None and abs(tested - end) < spread.step:
        tested = end + (spread.step if high else -spread.step)
    least = 1.0 if isinstance(spread, IntDistribution) and spread.low > 0 else 0.0
    if tested == end or (spread.low >= 0 and tested < least):
        return None
    if high and not spread.log and end <= 1 <= tested and role_of(name) != "warmup":
        return None
    return (max if high else min)(wider[0], tested), tested


def _places(spread: Range, by: float, high: bool) -> tuple[float, float]:
    ends = (1 + by, 1 + by / 2) if high else (-by, -by / 2)
    return value_at(spread, ends[0]), value_at(spread, ends[1])


# Most hidden layers of the paper's best runs end at .91 to .99 (arXiv:1806.01603). The paper's
# target is a quarter turn.
GOAL = 0.95  # of the target's distance


def not_far_enough(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to raise the learning rate, unless several trials turned far enough."""
    if not view.rotation_ranks:
        return
    now = view.typical(view.best)
    there = [trial for trial in view.ended if view.turned(trial) >= view.target.floor]
    if not now < view.target.floor or len(there) > 1:
        return
    best = view.best[0]
    if (rate := view.rate(best)) is None or view.turned(best) >= view.target.floor:
        return
    name, value = rate
    spread = view.space[name]
    if is_on_top(spread, value):  # then `at_the_edge` and `too_few_epochs` apply
        return
    how = relation(view, name)
    factor = how.factor(view.turned(best), GOAL * view.target.distance)
    raised = closest_value(spread, value * factor)
    if raised <= value or _is_tried(view, name, value, raised):
        return
    yield Advice(
        title=f"turn the layers further: raise {name}",
        evidence=(
            f"the best {len(view.best)} trials end at {now:.2f} of a quarter turn; over "
            f"{len(view.learnt)} trials, more rotation correlates with a better "
            f"{view.result.metric} (rank correlation {view.rotation_rho:.2f}); "
            f"{'only one trial has' if there else 'no trial has'} reached {view.target.floor:.2f}"
        ),
        action=f"{name} {value:.3g} -> {raised:.3g} in trial {best.number}'s configuration "
        f"({how.words})",
        params={**best.params, name: raised},
        config=best.config,
    )


def _is_tried(view: StudyView, name: str, value: float, raised: float) -> bool:
    """Return whether several trials are closer to the raised rate than to the best trial's rate.

    These trials were worse than the best trial.
    """
    middle = (value * raised) ** 0.5
    tried = [trial for trial in view.result.trials if trial.params.get(name, 0.0) >= middle]
    return len(tried) > 1


_CANDIDATES = [round(-0.95 + 0.05 * step, 2) for step in range(39)]


def with_alpha(
    leader: TrialResult,
    layer: str,
    units: Mapping[str, float],
    exponent: float,
    space: Mapping[str, BaseDistribution],
    goal: float = GOAL,
) -> dict[str, Any] | None:
    """Return the leader's configuration with the alpha that brings the layers closest to `goal`.

    None if no alpha is searched, or if no other alpha helps this layer.
    """
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
        return math.fsum(max(0.0, s_of(goal) - s) ** 2 for s in turned)

    spread = space[name]
    chosen = min({closest_value(spread, alpha) for alpha in _CANDIDATES}, key=shortfall)
    rates = _multipliers(float(chosen), layers)
    if rates[layer] / max(rates.values()) <= before[layer] / max(before.values()):
        return None
    return {**leader.params, name: chosen}


def _multipliers(alpha: float, layers: tuple[str, ...]) -> dict[str, float]:
    """Return each layer's share of Layca's rate (arXiv:1806.01603, section 4)."""
    last = max(1, len(layers) - 1)
    if alpha > 0:
        rates = [(1 - alpha) ** (5 * (last - at) / last) for at in range(len(layers))]
    else:
        rates = [(1 + alpha) ** (5 * at / last) for at in range(len(layers))]
    return dict(zip(layers, rates, strict=True))


# A layer is behind if it turns less than this share of the other layers' median rotation.
_SHARE = 0.5
# A layer must be behind in this share of the best trials.
_MOST_BEHIND = 0.75
# If the other layers turned less than this, all layers should turn further.
_OTHERS_TURNED = 0.3
# If more than this share of the layers is behind, it is a property of the network.
_FEW = 1 / 3
_RATES = "layer_rates"


@dataclass(frozen=True)
class _Behind:
    """A layer that turns much less than the other layers.

    Attributes:
        layer: the name of the layer.
        reached: the distance of the layer at the end of the best trials.
        peers: the distance of the layer if it turned as far as the other layers.
        rho: the rank correlation of its rotation with the metric.
        alone: the partial rank correlation, given the rotation of the other layers.
    """

    layer: str
    reached: float
    peers: float
    rho: float
    alone: float


def layer_behind(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to raise the rate of layers that turn too little, the slowest first.

    With Layca one trial raises the rates of all these layers. The rule leaves out a layer whose
    rotation does not correlate with the metric: in most networks a higher rate for it does harm
    (docs/log.md, 2026-11-25).
    """
    if not view.rotation_may_tell:
        return
    layers = view.best[0].curve.layers
    alike = [trial for trial in view.learnt if trial.curve.layers == layers]
    best = [trial for trial in view.best if trial in alike]
    if len(best) < 3 or len(alike) < ENOUGH:
        return
    units = {
        layer: 1 / bar
        for layer, bar in zip(layers, view.target.bars(layers), strict=True)
        if not math.isnan(bar) and all(layer in trial.rotation for trial in alike)
    }
    found = _behind(view, best, alike, units) if len(units) >= 3 else []
    leader = best[0]
    if not leader.optimizer.startswith("layca") or name_of("alpha", leader.params, view.space):
        for each in found:
            yield _one_by_one(view, each, units, best, alike)
    elif piece := _at_once(view, found, units, best, alike):
        yield piece


def _behind(
    view: StudyView,
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
    units: Mapping[str, float],
) -> list[_Behind]:
    """Return the layers that are behind, slowest first.

    The rotation of each of them correlates with the metric.

    Empty if many layers are behind.
    """
    behind = [
        layer
        for layer in units
        if sum(_is_behind(trial, layer, units) for trial in best) >= _MOST_BEHIND * len(best)
    ]
    if len(behind) > _FEW * len(units):
        return []
    scores = [view.score(trial) for trial in alike]
    floor = view.target.floor / view.target.distance  # a share of each layer's bar
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
            if each.reached * units[each.layer] < floor
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
    view: StudyView,
    found: Sequence[_Behind],
    units: Mapping[str, float],
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
) -> Advice | None:
    """Return the advice to raise the rates of all these layers in the best trial, under Layca.

    With the new rates they reach the distance of the other layers. None if they have reached it.
    """
    leader = best[0]
    now = leader.config.get(_RATES, {})
    rates: dict[str, float] = {}
    for each in found:
        bar = 1 / units[each.layer]
        most = GOAL * min(max(view.target.distance, bar), 1.0)
        level = min(_others(leader, each.layer, units) * bar, most)
        rates |= levelling_rates({each.layer: leader.rotation[each.layer]}, level, now)
    raised = [each for each in found if each.layer in rates]
    if not raised:
        return None
    names = " and ".join(each.layer for each in raised)
    return Advice(
        title=f"{names} {'turn' if len(raised) > 1 else 'turns'} too little: raise "
        f"{'their rates' if len(raised) > 1 else 'its rate'}",
        evidence="; ".join(_seen(view, each, best, alike) for each in raised),
        action=(
            f"{_RATES}={rates} in trial {leader.number}'s configuration, to turn as far as the "
            "other layers; the space has no parameter for it"
        ),
        params=leader.params,
        config={**leader.config, _RATES: {**now, **rates}},
    )


def _one_by_one(
    view: StudyView,
    each: _Behind,
    units: Mapping[str, float],
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
) -> Advice:
    leader, layer = best[0], each.layer
    rate = view.rate(leader)
    how = layer_relation(alike, rate[0] if rate else "", layer)
    factor = how.factor(each.reached, min(each.peers, 1.0))
    goal = GOAL * view.target.distance
    params = with_alpha(leader, layer, units, how.exponent, view.space, goal)
    if params is not None:
        name = name_of("alpha", leader.params, view.space)
        assert name is not None
        what = (
            f"{name} {leader.params[name]:g} -> {params[name]:g} in trial {leader.number}'s "
            f"configuration, which raises the layer's share of the rate; the layer needs "
            f"{factor:.1f} times the rate of the other layers ({how.words})"
        )
    else:
        what = (
            f"train it at {factor:.1f} times the rate of the other layers ({how.words}): give it "
            f"its own parameter group, or set {_RATES}={{{layer!r}: {factor:.1f}}} under Layca"
        )
    return Advice(
        title=f"{layer} turns too little: raise its rate",
        evidence=_seen(view, each, best, alike),
        action=what,
        params=params,
        config=leader.config if params else {},
    )


def _seen(
    view: StudyView, each: _Behind, best: Sequence[TrialResult], alike: Sequence[TrialResult]
) -> str:
    return (
        f"in the best {len(best)} trials {each.layer} ends at {each.reached:.2f} and the other "
        f"layers at {each.peers:.2f}; over {len(alike)} trials, its rotation correlates with a "
        f"better {view.result.metric} (rank correlation {each.rho:.2f}; {each.alone:.2f} given the "
        "rotation of the other layers)"
    )


_MOST_TIMES = 10.0


def too_few_epochs(view: StudyView) -> Iterator[Advice]:
    """Yield the advice to train longer.

    No trial of the study can test this advice, since all its trials have the same epochs.
    """
    if not view.rotation_ranks:
        return
    tops = []
    for trial in view.best:
        rate = view.rate(trial)
        if rate is None or not is_on_top(view.space[rate[0]], rate[1]):
            return
        prediction = forecast(trial.curve)
        if prediction is None:
            return
        tops.append((rate[1], view.target.reached(prediction.mid, prediction.layers)))
    reached = median(distance for _, distance in tops)
    if not reached < view.target.floor:
        return
    # s is close to linear in the learning rate summed over the steps.
    times = min(s_of(GOAL * view.target.distance) / max(s_of(reached), 1e-6), _MOST_TIMES)
    epochs = max(round(times * view.result.max_epochs), view.result.max_epochs + 1)
    yield Advice(
        title="train longer: the layers do not reach the target in time",
        evidence=(
            f"the best {len(tops)} trials have learning rates of {min(r for r, _ in tops):.3g} to "
            f"{max(r for r, _ in tops):.3g}, at the top of the range, and end at {reached:.2f} of "
            f"a quarter turn, below {view.target.floor:.2f}; over {len(view.learnt)} trials, more "
            f"rotation correlates with a better {view.result.metric} (rank correlation "
            f"{view.rotation_rho:.2f})"
        ),
        action=(
            f"--epochs {epochs}, not {view.result.max_epochs}, in a job with another name (a study "
            "keeps its epochs per trial)"
        ),
    )
