"""The training ends before the layers have turned, at the highest rate there is."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tuner.report.advice.case import Advice, Case, s_of
from tuner.report.advice.further import GOAL
from tuner.report.advice.parameters import is_on_top
from tuner.rotation import forecast

_MOST_TIMES = 10.0


def too_few_epochs(case: Case) -> Iterator[Advice]:
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
