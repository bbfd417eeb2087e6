"""All layers stop short in the best trials, and those that turn further do better."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.report.advice.case import Advice, Case
from tuner.report.advice.parameters import fitting, is_on_top
from tuner.report.advice.relation import relation

# Where most hidden layers of the best runs end, .91 to .99 (arXiv:1806.01603).
GOAL = 0.95


def not_far_enough(case: Case) -> Iterator[Advice]:
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


def _is_tried(case: Case, name: str, value: float, raised: float) -> bool:
    """Whether several trials nearer to the raised rate than to the best trial's are known: they
    have done worse."""
    middle = (value * raised) ** 0.5
    tried = [trial for trial in case.result.trials if trial.params.get(name, 0.0) >= middle]
    return len(tried) > 1
