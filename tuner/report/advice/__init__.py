"""Advice on what to try next, from rules that read the trials of a study.

- study_view.py: StudyView, the data that the rules read, and Advice, what they return
- rules.py: the rules; each may propose one change, with its evidence
- rank_tests.py: one-sided rank tests for few trials
- render.py: advice as text and as JSON

Begin with `advice` below.
"""

from __future__ import annotations

from tuner.report.advice.rules import (
    at_the_edge,
    layer_behind,
    not_far_enough,
    too_few_epochs,
    turned_by_decay,
    turned_early,
)
from tuner.report.advice.study_view import Advice, StudyView
from tuner.study.result import StudyResult

__all__ = ["Advice", "advice"]

# In the order in which they are shown and enqueued.
_RULES = (
    not_far_enough,
    layer_behind,
    turned_early,
    turned_by_decay,
    at_the_edge,
    too_few_epochs,
)


def advice(result: StudyResult) -> list[Advice]:
    """Return what the study's trials suggest to try next; empty where they show nothing.

    Every piece rests on several trials of the study, and none is to try what was tried. What takes
    more rotation for better is left out where rotation has been found not to rank the study's
    trials (`tuner.report.evidence`). That layers turn too early, or by weight decay, is not: both
    are reasons for it.
    """
    case = StudyView.of(result)
    tried = [(trial.params, trial.config) for trial in result.trials]
    found = [piece for rule in _RULES for piece in rule(case)]
    return [piece for piece in found if (piece.params, piece.config) not in tried]
