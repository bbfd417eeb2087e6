"""Finding 5: adaptive methods generalise as well as others once their layers turn as Layca's."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.best import best_by_grid
from tuner.paper.figures import draw_layers, panels
from tuner.paper.finding import Finding, Judgement, overall, told
from tuner.paper.grid import Grid
from tuner.paper.grids import ADAPTIVE, TASKS, adaptive, adaptive_layca
from tuner.paper.runs import chosen

_NAMES = ("adaptive", "adaptive-layca")
# Test accuracy, %, of the adaptive method and of the same with Layca. The paper gives the last two
# tasks' adaptive methods L2; here they have none, as the method itself has none by default.
_PAPER = {
    "c10-cnn1": (84.87, 88.25),
    "c100-resnet": (47.82, 58.16),
    "tiny-cnn": (37.72, 50.55),
    "c10-cnn2": (91.85, 93.47),
    "c100-wrn": (79.36, 79.64),
}


def _grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (adaptive, adaptive_layca))


def _judge(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        method = ADAPTIVE[str(task)]
        names = {"adaptive": method, "adaptive-layca": f"{method} + Layca"}
        of_grids, best = best_by_grid(of_task, names, _PAPER[str(task)])
        rows += of_grids
        held[str(task)] = bool(
            best["adaptive-layca"]["test"].mean() > best["adaptive"]["test"].mean()
        )
    words = f"an adaptive method tests better with Layca than without {told(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw(runs: pd.DataFrame) -> Figure:
    tasks = list(dict.fromkeys(runs["task"]))
    pairs = [(task, name) for task in tasks for name in _NAMES]
    titles = [f"{task}, {ADAPTIVE[task]}{' + Layca' * (n == _NAMES[1])}" for task, n in pairs]
    figure, axes = panels(titles, "epoch", "distance of each layer", rows=2)
    for panel, (task, name) in zip(axes, pairs, strict=True):
        best = chosen(runs[(runs["task"] == task) & (runs["grid"] == name)], ["lr"])
        draw_layers(panel, best["trial"].iloc[0].curve)
    return figure


FINDING = Finding(
    name="adaptive",
    title="Adaptive methods",
    claim=(
        "adaptive methods generalise less well because their layers turn unevenly; with Layca they "
        "do as well as the others (section 5)"
    ),
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
