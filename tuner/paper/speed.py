"""Finding 7: how fast a net trains depends on how fast its layers turn."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.figures import panels, train_losses
from tuner.paper.finding import Finding, Judgement, overall, told
from tuner.paper.grid import Grid
from tuner.paper.grids import TASKS, layca
from tuner.paper.runs import by_value, power_of_three, rank_correlation
from tuner.rotation import RotationCurve

# The train loss to reach: a third of knowing nothing of ten classes, which most runs come to.
_LEVEL = math.log(10) / 3
# A correlation this strong is a relation to be seen in a plot.
_STRONG = 0.5


def _grids(scale: str) -> tuple[Grid, ...]:
    return tuple(layca(task, scale) for task in TASKS)


def _judge(runs: pd.DataFrame) -> Judgement:
    runs = runs.assign(epochs=[_epochs_to(trial.curve) for trial in runs["trial"]])
    rows, held = [], {}
    for task, of_task in runs.groupby("task", sort=False):
        reached = of_task[of_task["epochs"].notna()]
        together, low, high = rank_correlation(reached, "lr", "epochs")
        row: dict[str, object] = {"task": task}
        for rate, of_rate in reversed(by_value(of_task, "lr").items()):
            whole = of_rate["epochs"].notna().all()
            shown = f"{of_rate['epochs'].mean():.1f}" if whole else "never"
            row[power_of_three(rate)] = shown
        row["rate ~ epochs"] = f"{together:.2f} ({low:.2f} to {high:.2f})"
        rows.append(row)
        held[str(task)] = abs(together) > _STRONG and (low > 0 or high < 0)
    words = (
        f"the epochs to a train loss of {_LEVEL:.2f} depend on the rate at which layers turn "
        f"(Spearman's correlation beyond ±{_STRONG:g}, its 95 % interval apart from 0) {told(held)}"
    )
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _epochs_to(curve: RotationCurve) -> float:
    """Return the first epoch with a train loss below the level; NaN if there is none."""
    epochs, losses = train_losses(curve)
    below = [epoch for epoch, loss in zip(epochs, losses, strict=True) if loss < _LEVEL]
    return below[0] if below else math.nan


def _draw(runs: pd.DataFrame) -> Figure:
    tasks = list(dict.fromkeys(runs["task"]))
    figure, axes = panels(tasks, "epoch", "train loss")
    for panel, task in zip(axes, tasks, strict=True):
        of_task = runs[runs["task"] == task]
        for rate, of_rate in reversed(by_value(of_task, "lr").items()):
            label = power_of_three(rate)
            panel.plot(*train_losses(of_rate["trial"].iloc[0].curve), label=label)
        panel.set_yscale("log")
    axes[0].legend(fontsize=7)
    return figure


FINDING = Finding(
    name="speed",
    title="Training speed",
    claim="how fast a net trains is a matter of how its layers turn (supplementary material)",
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
