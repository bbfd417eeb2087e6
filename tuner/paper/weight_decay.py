"""Finding 3: weight decay helps because it lets layers turn further."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.best import best_by_grid
from tuner.paper.figures import draw_layers, panels
from tuner.paper.finding import Finding, Judgement, overall, told
from tuner.paper.grid import Grid
from tuner.paper.grids import TASKS, sgd, sgd_l2
from tuner.paper.runs import chosen

_NAMES = {"sgd": "SGD", "sgd-l2": "SGD + L2"}
# Test accuracy, %, of SGD and SGD + L2 at their best rates.
_PAPER = {
    "c10-cnn1": (79.68, 88.15),
    "c100-resnet": (45.53, 60.11),
    "tiny-cnn": (42.26, 50.04),
    "c10-cnn2": (91.70, 93.28),
    "c100-wrn": (76.74, 80.45),
}


def _grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (sgd, sgd_l2))


def _judge(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        of_grids, best = best_by_grid(of_task, _NAMES, _PAPER[str(task)])
        rows += of_grids
        without, decayed = best["sgd"], best["sgd-l2"]
        held[str(task)] = bool(
            decayed["test"].mean() > without["test"].mean()
            and decayed["turned"].mean() > without["turned"].mean()
        )
    words = f"with L2 the layers turn further and the net tests better {told(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw(runs: pd.DataFrame) -> Figure:
    tasks = list(dict.fromkeys(runs["task"]))
    titles = [f"{task}, {name}" for task in tasks for name in _NAMES]
    figure, axes = panels(titles, "epoch", "distance of each layer", rows=2)
    for panel, (task, name) in zip(axes, [(t, n) for t in tasks for n in _NAMES], strict=True):
        best = chosen(runs[(runs["task"] == task) & (runs["grid"] == name)], ["lr"])
        draw_layers(panel, best["trial"].iloc[0].curve)
    return figure


FINDING = Finding(
    name="weight-decay",
    title="Weight decay",
    claim=(
        "weight decay lets the layers of SGD turn further, nearly to a distance of 1, and raises "
        "test accuracy with it (section 5)"
    ),
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
