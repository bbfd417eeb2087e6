"""What ways of training a task come to at their best rates, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tuner.paper.runs import chosen, percent, power_of_three


def best_by_grid(
    of_task: pd.DataFrame, shown: Mapping[str, str], paper: Sequence[float]
) -> tuple[list[dict[str, str]], dict[str, pd.DataFrame]]:
    """Return a row for each grid of a task, and the runs (all seeds) at its best rate.

    Args:
        of_task: the runs of one task.
        shown: what the table calls each grid, by its label.
        paper: the paper's test accuracy of each, in percent, in the same order.
    """
    rows, best = [], {}
    for (label, name), figure in zip(shown.items(), paper, strict=True):
        best[label] = chosen(of_task[of_task["grid"] == label], ["lr"])
        rows.append(
            {
                "task": str(of_task["task"].iloc[0]),
                "by": name,
                "rate": power_of_three(best[label]["lr"].iloc[0]),
                "turned": f"{best[label]['turned'].mean():.2f}",
                "test, %": percent(best[label]["test"]),
                "paper": f"{figure:.2f}",
            }
        )
    return rows, best
