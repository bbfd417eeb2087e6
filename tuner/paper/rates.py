"""Finding 1: the learning rate decides how far layers turn, and that how well a net generalises."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.best import best_by_grid
from tuner.paper.figures import panels
from tuner.paper.finding import Finding, Judgement, overall, told
from tuner.paper.grid import Grid
from tuner.paper.grids import TASKS, layca, sgd
from tuner.paper.runs import rank_correlation

# Test accuracy, %, of SGD without L2 at its best rate, and of Layca at its own.
_PAPER = {
    "c10-cnn1": (79.68, 88.45),
    "c100-resnet": (45.53, 59.81),
    "tiny-cnn": (42.26, 50.89),
    "c10-cnn2": (91.70, 93.40),
    "c100-wrn": (76.74, 80.69),
}


def _grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (sgd, layca))


def _judge(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        fitting = of_task[of_task["fits"]]
        together, low, high = rank_correlation(fitting, "turned", "test")
        known = not math.isnan(together)
        if known:
            held[str(task)] = low > 0
        of_grids, _ = best_by_grid(of_task, {"sgd": "SGD", "layca": "Layca"}, _PAPER[str(task)])
        of_grids[0] |= {
            "fit": f"{len(fitting)}/{len(of_task)}",
            "turned ~ test": f"{together:.2f} ({low:.2f}, {high:.2f})" if known else "",
        }
        rows += of_grids
    words = (
        "among the runs that fit their training data, those whose hidden layers turned further "
        f"test better (the 95 % interval of Spearman's correlation is above 0) {told(held)}"
    )
    # Three runs say nothing, and a task without more is neither for nor against.
    few = [task for task in dict.fromkeys(runs["task"]) if task not in held]
    if few:
        words += f"; too few fit to tell on {', '.join(few)}"
    return Judgement(overall(held), words, pd.DataFrame(rows).fillna(""))


def _draw(runs: pd.DataFrame) -> Figure:
    tasks = list(dict.fromkeys(runs["task"]))
    figure, axes = panels(tasks, "hidden layers' final distance", "test accuracy")
    for panel, task in zip(axes, tasks, strict=True):
        for name, marker, colour in (("sgd", "o", "tab:blue"), ("layca", "^", "tab:orange")):
            of_grid = runs[(runs["task"] == task) & (runs["grid"] == name)]
            for fits, alpha, label in ((True, 0.9, name), (False, 0.25, f"{name}, does not fit")):
                some = of_grid[of_grid["fits"] == fits]
                panel.scatter(
                    some["turned"],
                    some["test"],
                    marker=marker,
                    color=colour,
                    alpha=alpha,
                    label=label,
                )
        panel.set_xlim(0, 1.1)
    axes[0].legend(fontsize=8)
    return figure


FINDING = Finding(
    name="rates",
    title="Learning rate, rotation and generalisation",
    claim=(
        "over learning rates, larger layer rotations mean better test accuracy, up to a distance "
        "of 1 (sections 4 and 5)"
    ),
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
