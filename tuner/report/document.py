"""A study's report as data: the rows to show, and the JSON document."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from tuner.errors import unknown_name
from tuner.report.evidence import (
    Audits,
    Compared,
    RotationWorth,
    advised,
    audits,
    rotation_worth,
    started,
)
from tuner.study.result import StudyResult


def rows(result: StudyResult, sort: str = "rank", top: int | None = None) -> pd.DataFrame:
    """Return the ranked table, sorted and cut.

    Args:
        result: the study.
        sort: a column of `StudyResult.ranking`; parameters also without their ``params/``. The
            metric sorts best first, everything else ascending.
        top: how many rows, >= 0; all when None.

    Raises:
        InvalidInput: there is no such column.
    """
    table = result.ranking()
    if table.empty:
        return table
    column = sort if sort in table else f"params/{sort}"
    if column not in table:
        raise unknown_name("column to sort by", sort, [str(name) for name in table])
    descending = column == result.metric and result.mode == "max"
    if table[column].dropna().map(type).nunique() > 1 and not is_numeric_dtype(table[column]):
        table[column] = table[column].map(str)  # a choice of None, "auto" and 0.5, say
    table = table.sort_values(column, ascending=not descending, kind="stable", na_position="last")
    return table if top is None else table.head(top)


def to_json(result: StudyResult, sort: str = "rank", top: int | None = None) -> str:
    """Return the report as one JSON object; what is not known is null."""
    by_number = {trial.number: trial for trial in result.trials}
    table = rows(result, sort, top)
    return json.dumps(
        {
            "study": result.name,
            "metric": result.metric,
            "mode": result.mode,
            "max_epochs": result.max_epochs,
            "checkpoints": result.checkpoints,
            "trials": [
                {
                    "rank": int(row["rank"]),
                    "trial": int(row["trial"]),
                    "state": row["state"],
                    "value": _known(row[result.metric]),
                    "rotation_min": _known(row["rotation_min"]),
                    "rotation_min_layer": row["rotation_min_layer"] or None,
                    "rotation_mean": _known(row["rotation_mean"]),
                    "epochs": _whole(row["epochs"]),
                    "seconds": round(row["seconds"], 3),
                    "params": {
                        name: None
                        if isinstance(value, float) and not math.isfinite(value)
                        else value
                        for name, value in by_number[row["trial"]].setting.items()
                    },
                    "reason": row["reason"],
                }
                for row in table.to_dict("records")
            ],
            "saved": {"epochs": _whole(result.saved.epochs), "share": round(result.saved.share, 4)},
            "audits": _rounded(audits(result)),
            "rotation": _rounded(rotation_worth(result)),
            "advised": _rounded(advised(result)),
            "started": _rounded(started(result)),
        },
        indent=1,
    )


def headline(result: StudyResult) -> str:
    """Return the line on top: how many trials ended how, and what pruning saved."""
    counts = dict.fromkeys(("complete", "pruned", "failed", "running"), 0)
    for trial in result.trials:
        counts[trial.state] += 1
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none yet"
    saved = result.saved
    spent = sum(trial.epochs for trial in result.trials if trial.state in ("complete", "pruned"))
    return (
        f"{result.name}: {len(result.trials)} trials ({told}); pruning saved "
        f"{round(saved.epochs, 1):.15g} of {round(spent + saved.epochs, 1):.15g} epochs "
        f"({saved.share:.0%})"
    )


def _rounded(shown: Audits | RotationWorth | Compared | None) -> dict[str, Any] | None:
    """Return its fields, numbers to 6 digits; what is not known is null."""
    if shown is None:
        return None
    return {
        name: _known(round(value, 6)) if isinstance(value, float) else value
        for name, value in asdict(shown).items()
    }


def _known(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else round(float(value), 3)
