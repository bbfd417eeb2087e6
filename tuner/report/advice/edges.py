"""The best trials sit on the edge of a search range."""

from __future__ import annotations

import math
from collections.abc import Iterator

from optuna.distributions import IntDistribution

from tuner.report.advice.case import ENOUGH, Advice, Case
from tuner.report.advice.parameters import Range, at_place, fitting, place, role_of
from tuner.report.advice.ranks import chance_of
from tuner.study.result import TrialResult

_OUTER = 0.15  # of the range, as it is searched: what counts as its edge
# Of the complete trials, and at least three. A sampler that learns nothing puts 15 % of them to an
# edge: among the best quarter they could never be most.
_BEST = 0.1
_MOST = 0.75  # of the best trials
_BY_CHANCE = 0.01
# A log range grows by a quarter of its width, and at least by this factor; any other by half.
_QUARTER, _HALF, _LEAST_FACTOR = 0.25, 0.5, 3.0


def at_the_edge(case: Case) -> Iterator[Advice]:
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
            if len(edge) < _MOST * len(best) or elsewhere < 3 or by_chance > _BY_CHANCE:
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
    case: Case,
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
