"""The runs of some grids as one table, and statistics over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from tuner.paper.grids import Grid
from tuner.rotation.target import roles
from tuner.study.result import StudyResult, TrialResult

# The paper uses only runs that end with a training accuracy above .9, since rotation without
# learning shows nothing. Trials report a loss. With ten classes, the loss of such a run is about
# .29, an eighth of the loss of a random guess.
_FITS = 1 / 8
# Resamples of a bootstrap interval.
_RESAMPLES = 2000


# At full size; the small twins all have ten.
_CLASSES = {"c100-resnet": 100, "c100-wrn": 100, "tiny-cnn": 200}


def table_of(results: Sequence[tuple[Grid, StudyResult]], scale: str) -> pd.DataFrame:
    """Return a row for each complete run.

    The columns are the keys of the config, and:

    - task: the task's name
    - grid: the grid's label
    - val, test: accuracies, in [0, 1]
    - train_loss: the last train loss
    - turned: the mean final distance of the hidden layers
    - first: the final distance of the first layer
    - fits: whether the train loss is below an eighth of ln(classes)
    - trial: the `TrialResult`
    """
    rows = [
        {
            "task": grid.task,
            "grid": grid.label,
            **grid.constants,
            **trial.params,
            **_ending(trial, _CLASSES.get(grid.task, 10) if scale == "full" else 10),
            "trial": trial,
        }
        for grid, result in results
        for trial in result.trials
        if trial.state == "complete"
    ]
    return pd.DataFrame(rows)


def _ending(trial: TrialResult, classes: int) -> dict[str, Any]:
    curve = trial.curve
    parts = roles(curve.layers)
    distances = curve.distances[-1]
    hidden = [d for d, role in zip(distances, parts, strict=True) if role == "hidden"]
    loss = curve.train_loss[-1]
    return {
        "val": trial.value,
        "test": trial.test.get("test_accuracy", math.nan),
        "train_loss": loss,
        "turned": fmean(hidden),
        "first": distances[0],
        "fits": loss < _FITS * math.log(classes),
    }


def rank_correlation(runs: pd.DataFrame, x: str, y: str) -> tuple[float, float, float]:
    """Return Spearman's correlation of two columns and its 95 % bootstrap interval.

    All are NaN with fewer than four runs, or if a column has only one value.
    """
    ranks = runs[[x, y]].rank().to_numpy()
    if len(ranks) < 4 or np.ptp(ranks, axis=0).min() == 0:
        return math.nan, math.nan, math.nan
    generator = np.random.default_rng(0)
    draws = generator.integers(len(ranks), size=(_RESAMPLES, len(ranks)))
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = [_pearson(ranks[draw]) for draw in draws]
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return _pearson(ranks), float(low), float(high)


def _pearson(pairs: np.ndarray[Any, Any]) -> float:
    x, y = (pairs - pairs.mean(axis=0)).T
    return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


def chosen(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the runs, of all seeds, of the setting with the best mean validation accuracy.

    Args:
        runs: a table of runs.
        by: the columns that make up a setting.
    """
    best = runs.groupby(list(by), dropna=False)["val"].mean().idxmax()
    values = best if isinstance(best, tuple) else (best,)
    mask = np.ones(len(runs), dtype=bool)
    for key, value in zip(by, values, strict=True):
        mask &= (runs[key] == value).to_numpy()
    return runs[mask]


def by_value(runs: pd.DataFrame, column: str) -> dict[float, pd.DataFrame]:
    """Return the runs for each value of a numeric column, ascending."""
    return {value: runs[runs[column] == value] for value in sorted(runs[column].unique())}


def mean_and_error(values: pd.Series[Any]) -> tuple[float, float]:
    """Return the mean and its standard error; with one value the error is NaN."""
    many = values.to_numpy(float)
    error = many.std(ddof=1) / math.sqrt(len(many)) if len(many) > 1 else math.nan
    return float(many.mean()), float(error)


def percent(values: pd.Series[Any]) -> str:
    """Return the mean of shares, in percent, and its standard error if there are several."""
    mean, error = mean_and_error(values)
    return f"{100 * mean:.2f}" + (f" ± {100 * error:.2f}" if len(values) > 1 else "")


def power_of_three(rate: float) -> str:
    """Return a rate as the paper writes it: 3^-2.5."""
    return f"3^{math.log(rate, 3):.3g}"
