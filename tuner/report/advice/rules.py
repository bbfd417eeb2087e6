"""The rules of advice: each reads a study and may propose one change, with its evidence.

Under Layca all of them get rates of their own in one trial. Where it does not matter nothing is
advised: in most networks bringing layers to the others' distance does harm (docs/log.md,
2026-11-25).

It works on trials whose rotation has not been found to say anything, and is why it may not.

It compares when layers turn, not how far, and so speaks also where that has been found to say
nothing: turning at once without learning is a reason for it.
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
    at_place,
    fitting,
    is_on_top,
    layer_relation,
    name_of,
    place,
    relation,
    role_of,
    s_of,
)
from tuner.rotation import forecast
from tuner.rotation.rate import levelling_rates
from tuner.study.result import TrialResult


def turned_by_decay(case: StudyView) -> Iterator[Advice]:
    """Yield the advice to lower the weight decay and raise the rate.

    What falls is the norm, which a study does not keep. It shows in the curves: a layer that
    shrinks turns more by each step, so that rotation speeds up per learning rate spent.
    """
    trials = [trial for trial in case.learnt if _decay(case, trial) and case.rate(trial)]
    if len(trials) < ENOUGH:
        return
    turned = [case.turned(trial) for trial in trials]
    by_decay = correlation(turned, [_value(trial, _decay(case, trial)) for trial in trials])
    rates = _rates(case, trials)
    by_rate = correlation(turned, rates)
    by_score = correlation(turned, [case.score(trial) for trial in trials])
    count = len(trials)
    if not is_positive(by_decay, count) or is_positive(by_rate, count):
        return
    far = sorted(trials, key=case.turned, reverse=True)[: max(3, count // 4)]
    slow = _rates(case, far)
    speeding = sum(_speeds_up(case, trial) for trial in far)
    if is_positive(by_score, count) or median(slow) > median(rates) or 2 * speeding <= len(far):
        return
    leader = max(far, key=case.score)
    name, at = _decay(case, leader), case.rate(leader)
    assert name is not None
    assert at is not None
    rate_name, rate = at
    spread, rates_spread = case.space[name], case.space[rate_name]
    if not isinstance(spread, Range) or not isinstance(rates_spread, Range):
        return
    lower = fitting(spread, float(leader.params[name]) / 10)
    raised = fitting(rates_spread, max(rate, at_place(rates_spread, 0.5)))
    yield Advice(
        title=f"rotation follows {name}, not learning: lower it, and raise {rate_name}",
        evidence=(
            f"over {count} trials rotation goes with {name} (rank correlation {by_decay:.2f}), not "
            f"with {rate_name} ({by_rate:.2f}) nor with a better {case.result.metric} "
            f"({by_score:.2f}); {speeding} of the {len(far)} that turned furthest, at a median "
            f"{rate_name} of {median(slow):.3g}, turn faster the longer they run, as layers do "
            "whose norm falls"
        ),
        action=f"{name} {leader.params[name]:.3g} -> {lower:.3g} and {rate_name} {rate:.3g} -> "
        f"{raised:.3g} in trial {leader.number}'s configuration; trust {case.result.metric}, not "
        "rotation, until then",
        params={**leader.params, name: lower, rate_name: raised},
        config=leader.config,
    )


def _decay(case: StudyView, trial: TrialResult) -> str | None:
    return name_of("decay", trial.params, case.space)


def _rates(case: StudyView, trials: list[TrialResult]) -> list[float]:
    return [rate[1] for trial in trials if (rate := case.rate(trial))]


def _value(trial: TrialResult, name: str | None) -> float:
    return float(trial.params[name or ""])


def _speeds_up(case: StudyView, trial: TrialResult) -> bool:
    """Whether s grows faster in the second half of the learning rate spent than in the first."""
    curve = trial.curve
    spent = curve.lr_progress
    if any(math.isnan(share) for share in spent):
        spent = tuple(epoch / curve.max_epochs for epoch in curve.epochs)
    s = [s_of(case.turned(trial, report)) for report in range(len(curve))]
    half = float(np.interp(spent[-1] / 2, [0.0, *spent], [0.0, *s]))
    return s[-1] - half > half


_EARLY = 0.1  # of the training
_MOST_EARLY = 0.5  # of the turn
# A share of the target: less is no turn to speak of, however early.
_LEAST = 0.2


def turned_early(case: StudyView) -> Iterator[Advice]:
    """Yield the advice to warm up."""
    known = [(trial, *_turns(case, trial)) for trial in case.ended]
    known = [(trial, early, whole) for trial, early, whole in known if not math.isnan(early)]
    if len(known) < ENOUGH:
        return
    hasty = [
        (trial, early, whole)
        for trial, early, whole in known
        if early > _LEAST * case.target.distance and early > _MOST_EARLY * whole
    ]
    others = [trial for trial, early, whole in known if early <= _MOST_EARLY * whole]
    scores = [case.score(trial) for trial, _, _ in hasty]
    if not are_lower(scores, [case.score(trial) for trial in others]):
        return
    found = _warmer(case, [trial for trial, _, _ in hasty])
    if found is None:
        return
    params, config, how = found
    share = median(early / whole for _, early, whole in hasty)
    metric = case.result.metric
    yield Advice(
        title="the layers turn too early: warm up",
        evidence=(
            f"{len(hasty)} trials make {share:.0%} of their turn in the first tenth of the "
            f"training and end at a median {metric} of "
            f"{median(trial.value for trial, _, _ in hasty):.4g}; the {len(others)} others at "
            f"{median(trial.value for trial in others):.4g}"
        ),
        action=how,
        params=params,
        config=config,
    )


def _turns(case: StudyView, trial: TrialResult) -> tuple[float, float]:
    """How far the layers had come after a tenth of the training, and at its end."""
    curve = trial.curve
    turned = [case.turned(trial, report) for report in range(len(curve))]
    if not turned or any(math.isnan(distance) for distance in turned):
        return math.nan, math.nan
    after = np.interp(_EARLY * curve.max_epochs, [0.0, *curve.epochs], [0.0, *turned])
    return float(after), turned[-1]


def _warmer(
    case: StudyView, hasty: list[TrialResult]
) -> tuple[dict[str, Any] | None, dict[str, Any], str] | None:
    """Return the best of these trials with a warmup of a tenth of the training, by parameters and
    config, and that in words; None where most of them have about that already, so that it is no
    remedy."""
    epochs = _EARLY * case.result.max_epochs
    names = {name_of("warmup", trial.params, case.space) for trial in hasty}
    if names == {None}:
        how = f"let the learning rate climb over the first {epochs:.2g} epochs"
        return None, {}, f"{how} (warmup_epochs in the config; no parameter of this space does it)"
    if len(names) > 1 or (name := names.pop()) is None:
        return None
    # A parameter that does not count in epochs goes to its top.
    wanted = fitting(case.space[name], epochs if "epoch" in name else math.inf)
    short = [trial for trial in hasty if trial.params[name] <= wanted / 2]
    if not short or len(short) < _MOST_EARLY * len(hasty):
        return None
    leader = short[0]
    return (
        {**leader.params, name: wanted},
        leader.config,
        f"{name} {leader.params[name]:g} -> {wanted:g} in trial {leader.number}'s configuration",
    )


_OUTER = 0.15  # of the range, as it is searched: what counts as its edge
# Of the complete trials, and at least three. A sampler that learns nothing puts 15 % of them to an
# edge: among the best quarter they could never be most.
_BEST = 0.1
_MOST_AT_EDGE = 0.75  # of the best trials
_BY_CHANCE = 0.01
# A log range grows by a quarter of its width, and at least by this factor; any other by half.
_QUARTER, _HALF, _LEAST_FACTOR = 0.25, 0.5, 3.0


def at_the_edge(case: StudyView) -> Iterator[Advice]:
    """Yield the advice to widen a range, for each that the best trials leave no room in."""
    leading = case.best[: max(3, round(_BEST * len(case.ended)))]
    ended = [trial for trial in case.result.trials if trial.state in ("complete", "pruned")]
    for name, spread in sorted(case.space.items()):
        if not isinstance(spread, Range) or not spread.low < spread.high:
            continue
        best = [trial for trial in leading if name in trial.params]
        numbers = {trial.number for trial in best}
        rest = [t for t in ended if name in t.params and t.number not in numbers]
        if len(best) < 3 or len(best) + len(rest) < ENOUGH:
            continue
        for high in (True, False):
            edge = [trial for trial in best if _is_at(spread, trial.params[name], high)]
            # Where all trials are there, as a sampler's startup may have it, nothing was compared.
            elsewhere = sum(not _is_at(spread, trial.params[name], high) for trial in rest)
            by_chance = chance_of(len(edge), len(best), _chance(spread, high))
            if len(edge) < _MOST_AT_EDGE * len(best) or elsewhere < 3 or by_chance > _BY_CHANCE:
                continue
            if (found := _advice(case, name, spread, high, edge, best, elsewhere)) is not None:
                yield found


def _is_at(spread: Range, value: float, high: bool) -> bool:
    where = place(spread, value)
    return where >= 1 - _OUTER if high else where <= _OUTER


def _chance(spread: Range, high: bool) -> float:
    """The share of the range that is its edge, which a few whole numbers may make large."""
    if spread.step is None or spread.log:
        return _OUTER
    steps = round((spread.high - spread.low) / spread.step)
    values = [spread.low + step * spread.step for step in range(steps + 1)]
    return sum(_is_at(spread, value, high) for value in values) / len(values)


def _advice(
    case: StudyView,
    name: str,
    spread: Range,
    high: bool,
    edge: list[TrialResult],
    best: list[TrialResult],
    elsewhere: int,
) -> Advice | None:
    if not high and role_of(name) in ("decay", "warmup"):
        return None  # what is least there already cannot matter less
    wider = _wider(name, spread, high)
    if wider is None:
        return None
    end = spread.high if high else spread.low
    to, beyond = wider
    tested = fitting(spread, beyond, beyond=True)
    values = sorted(
        {f"{trial.params[name]:.3g}": trial.params[name] for trial in edge}.items(),
        key=lambda item: item[1],
    )
    held = f"at {values[0][0]}" if len(values) == 1 else f"from {values[0][0]} to {values[-1][0]}"
    leader = edge[0]
    params = {**leader.params, name: tested}
    return Advice(
        title=f"{name} wants to be {'larger' if high else 'smaller'} than its range lets it",
        evidence=(
            f"{len(edge)} of the best {len(best)} trials have it {held}, on the edge of "
            f"{spread.low:g} to {spread.high:g}; {elsewhere} trials away from that edge did worse"
        ),
        action=(
            f"search {name} {'up' if high else 'down'} to {to:.3g}, not {end:g}, in a job of "
            f"another name (a study keeps its space); {name}={tested:.3g} in trial "
            f"{leader.number}'s configuration, outside of the range, tests it in this one"
        ),
        params=params,
        config=leader.config,
    )


def _wider(name: str, spread: Range, high: bool) -> tuple[float, float] | None:
    """Return how far to extend a range, and a value to test beyond its edge; None where an end
    looks like a limit of the parameter itself, as 0 and 1 do."""
    end = spread.high if high else spread.low
    if spread.log:
        by = max(_QUARTER, math.log(_LEAST_FACTOR) / math.log(spread.high / spread.low))
        wider = _places(spread, by, high)
    elif high and spread.low >= 0 and spread.high <= 1 and role_of(name) != "warmup":
        # A share, such as a momentum: it comes closer to 1 without getting there.
        wider = (1 - (1 - end) / 2, 1 - (1 - end) * 0.75)
    elif not high and spread.low >= 0:
        wider = (end / 2, end * 0.75)
    else:
        wider = _places(spread, _HALF, high)
    tested = float(fitting(spread, wider[1], beyond=True))
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
    return at_place(spread, ends[0]), at_place(spread, ends[1])


# Where most hidden layers of the best runs end, .91 to .99 of the paper's target, a quarter turn
# (arXiv:1806.01603).
GOAL = 0.95  # of the target's distance


def not_far_enough(case: StudyView) -> Iterator[Advice]:
    """Yield the advice to raise the learning rate, unless trials of such rotation are known."""
    if not case.rotation_ranks:
        return
    now = case.typical(case.best)
    there = [trial for trial in case.ended if case.turned(trial) >= case.target.floor]
    if not now < case.target.floor or len(there) > 1:
        return
    best = case.best[0]
    if (rate := case.rate(best)) is None or case.turned(best) >= case.target.floor:
        return
    name, value = rate
    spread = case.space[name]
    if is_on_top(spread, value):  # it cannot be raised by much: see `edges` and `budget`
        return
    how = relation(case, name)
    factor = how.factor(case.turned(best), GOAL * case.target.distance)
    raised = fitting(spread, value * factor)
    if raised <= value or _is_tried(case, name, value, raised):
        return
    yield Advice(
        title=f"turn the layers further: raise {name}",
        evidence=(
            f"the best {len(case.best)} trials end at {now:.2f} of a quarter turn; over "
            f"{len(case.learnt)} trials more rotation goes with a better {case.result.metric} "
            f"(rank correlation {case.rotation_rho:.2f}), and "
            f"{'only one has' if there else 'none has'} reached {case.target.floor:.2f}"
        ),
        action=f"{name} {value:.3g} -> {raised:.3g} in trial {best.number}'s configuration "
        f"({how.words})",
        params={**best.params, name: raised},
        config=best.config,
    )


def _is_tried(case: StudyView, name: str, value: float, raised: float) -> bool:
    """Whether several trials nearer to the raised rate than to the best trial's are known: they
    have done worse."""
    middle = (value * raised) ** 0.5
    tried = [trial for trial in case.result.trials if trial.params.get(name, 0.0) >= middle]
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

    None if no alpha is searched, or if another one would not help this layer.
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


# Behind is who comes to less than this share of what the other layers do.
_SHARE = 0.5
# How many of the best trials must show it.
_MOST_BEHIND = 0.75
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


def layer_behind(case: StudyView) -> Iterator[Advice]:
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
    case: StudyView,
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
    units: Mapping[str, float],
) -> list[_Behind]:
    """Return the layers that stay behind and matter, the furthest first; none if they are many."""
    behind = [
        layer
        for layer in units
        if sum(_is_behind(trial, layer, units) for trial in best) >= _MOST_BEHIND * len(best)
    ]
    if len(behind) > _FEW * len(units):
        return []
    scores = [case.score(trial) for trial in alike]
    floor = case.target.floor / case.target.distance  # a share of each layer's bar
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
    case: StudyView,
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
        bar = 1 / units[each.layer]
        most = GOAL * min(max(case.target.distance, bar), 1.0)
        level = min(_others(leader, each.layer, units) * bar, most)
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
    case: StudyView,
    each: _Behind,
    units: Mapping[str, float],
    best: Sequence[TrialResult],
    alike: Sequence[TrialResult],
) -> Advice:
    leader, layer = best[0], each.layer
    rate = case.rate(leader)
    how = layer_relation(alike, rate[0] if rate else "", layer)
    factor = how.factor(each.reached, min(each.peers, 1.0))
    goal = GOAL * case.target.distance
    params = with_alpha(leader, layer, units, how.exponent, case.space, goal)
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
    case: StudyView, each: _Behind, best: Sequence[TrialResult], alike: Sequence[TrialResult]
) -> str:
    return (
        f"in the best {len(best)} trials {each.layer} ends at {each.reached:.2f} where the others "
        f"come to {each.peers:.2f}; over {len(alike)} trials its rotation goes with a better "
        f"{case.result.metric} (rank correlation {each.rho:.2f}; {each.alone:.2f} where the others "
        "turn alike)"
    )


_MOST_TIMES = 10.0


def too_few_epochs(case: StudyView) -> Iterator[Advice]:
    """Yield the advice to train longer. No configuration of the study can test it: the epochs of
    a trial are the study's."""
    if not case.rotation_ranks:
        return
    tops = []
    for trial in case.best:
        rate = case.rate(trial)
        if rate is None or not is_on_top(case.space[rate[0]], rate[1]):
            return
        prediction = forecast(trial.curve)
        if prediction is None:
            return
        tops.append((rate[1], case.target.reached(prediction.mid, prediction.layers)))
    reached = median(distance for _, distance in tops)
    if not reached < case.target.floor:
        return
    # s is close to linear in the learning rate summed over the steps.
    times = min(s_of(GOAL * case.target.distance) / max(s_of(reached), 1e-6), _MOST_TIMES)
    epochs = max(round(times * case.result.max_epochs), case.result.max_epochs + 1)
    yield Advice(
        title="train longer: the layers do not get there in time",
        evidence=(
            f"the best {len(tops)} trials have learning rates of {min(r for r, _ in tops):.3g} to "
            f"{max(r for r, _ in tops):.3g}, at the top of the range, and end at {reached:.2f} of "
            f"a quarter turn, short of {case.target.floor:.2f}; over {len(case.learnt)} trials "
            f"more rotation goes with a better {case.result.metric} (rank correlation "
            f"{case.rotation_rho:.2f})"
        ),
        action=(
            f"--epochs {epochs}, not {case.result.max_epochs}, in a job of another name (a study "
            "keeps its epochs per trial)"
        ),
    )
