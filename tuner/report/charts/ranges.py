"""What the axes of several charts have in common: the range of a metric, and of a parameter."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuner.study.result import StudyResult, TrialResult

# A range so many times that of the middle nine tenths is one of outliers, a diverged loss, say.
_OUTLYING = 5.0
_DECADES = 100.0


def metric_scale(values: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Return the scale of an axis of the metric, and a sentence where it leaves outliers out."""
    low, few, many, high = np.quantile(np.array(values), [0, 0.05, 0.95, 1])
    if many <= few or high - low <= _OUTLYING * (many - few):
        return {}, ""
    margin = (many - few) / 10
    domain = [float(max(low, few - margin)), float(min(high, many + margin))]
    return {"domain": domain, "clamp": True}, " Outliers are drawn at the edge."


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_wide(values: Sequence[float]) -> bool:
    """Whether positive values span decades, so that their logarithms are the better scale."""
    return bool(values) and min(values) > 0 and max(values) >= _DECADES * min(values)


def is_drawn_by_log(result: StudyResult, name: str, values: Sequence[float]) -> bool:
    """Whether a parameter's axis is a logarithmic one: as its space draws it, if that is known."""
    drawn = json.loads(result.space or "{}").get(name)
    by_log = json.loads(drawn)["attributes"].get("log") if isinstance(drawn, str) else None
    if by_log is None:
        return is_wide(values)
    return bool(by_log) and min(values) > 0


def with_value(result: StudyResult) -> list[TrialResult]:
    """Return the trials whose metric is known and finite, best first."""
    return [trial for trial in result.ranked if math.isfinite(trial.value)]
