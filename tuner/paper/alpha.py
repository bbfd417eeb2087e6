"""Finding 2: it is best when all layers turn at one rate."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.figures import panels
from tuner.paper.finding import Finding, Judgement, overall, told
from tuner.paper.grid import Choice, Grid
from tuner.paper.grids import TASKS
from tuner.paper.runs import by_value, percent

_ALPHAS = {
    "full": (-0.8, -0.6, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    "small": (-0.6, -0.3, 0.0, 0.3, 0.6),
}
# The authors' best. The small runs have a fiftieth of the steps, so their best rate is higher.
_RATE = {"full": 3.0**-3, "small": 3.0**-2}
# Test accuracy, %, at alpha -.6, 0 and +.6.
_PAPER = {
    "c10-cnn1": (83.11, 88.45, 68.67),
    "c100-resnet": (44.26, 59.81, 29.63),
    "tiny-cnn": (40.41, 50.89, 28.21),
    "c10-cnn2": (92.16, 93.40, 86.79),
    "c100-wrn": (74.67, 80.69, 73.10),
}


def _grids(scale: str) -> tuple[Grid, ...]:
    constants: dict[str, Choice] = {"optimizer": "layca", "momentum": 0.0, "lr": _RATE[scale]}
    return tuple(Grid(task, "alpha", {"alpha": _ALPHAS[scale]}, constants) for task in TASKS)


def _judge(runs: pd.DataFrame) -> Judgement:
    rows, held = [], {}
    for task, of_task in runs.groupby("task", sort=False):
        row: dict[str, object] = {"task": task}
        by_alpha = by_value(of_task, "alpha")
        for alpha, of_alpha in by_alpha.items():
            row[f"alpha {alpha:+g}"] = percent(of_alpha["test"])
        row["paper: -.6 / 0 / +.6"] = " / ".join(f"{value:.2f}" for value in _PAPER[str(task)])
        rows.append(row)
        means = {alpha: of_alpha["test"].mean() for alpha, of_alpha in by_alpha.items()}
        held[str(task)] = means[0.0] > max(means[-0.6], means[0.6])
    words = f"equal rates (alpha 0) test better than alpha -.6 and +.6 {told(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw(runs: pd.DataFrame) -> Figure:
    tasks = list(dict.fromkeys(runs["task"]))
    figure, axes = panels(tasks, "alpha", "test accuracy")
    for panel, task in zip(axes, tasks, strict=True):
        of_task = runs[runs["task"] == task]
        means = of_task.groupby("alpha")["test"].mean()
        panel.plot(means.index, means.to_numpy(), color="tab:blue")
        panel.scatter(of_task["alpha"], of_task["test"], color="tab:blue", s=12)
    return figure


FINDING = Finding(
    name="alpha",
    title="Layers that turn at different rates",
    claim="test accuracy is best when all layers turn at the same rate, alpha 0 (section 4)",
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
