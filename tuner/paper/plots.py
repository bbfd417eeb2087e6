"""What the plots of the findings share: panels side by side, layers coloured by depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuner.rotation import RotationCurve


def panels(titles: Sequence[str], x: str, y: str, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, their axes shared.

    They lie side by side; in several rows, one below the other first.
    """
    columns = -(-len(titles) // rows)
    figure = Figure(figsize=(3.0 * columns + 0.6, 2.8 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, sharex="col", sharey=True, squeeze=False)
    axes = list(grid.T.flat)
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title, fontsize=10)
    for panel in grid[-1]:
        panel.set_xlabel(x)
    for panel in grid[:, 0]:
        panel.set_ylabel(y)
    return figure, axes


def draw_layers(panel: Axes, curve: RotationCurve) -> None:
    """Draw each layer's distance against the epoch, the first layer dark, the last light."""
    colours = matplotlib.colormaps["viridis"]
    last = max(len(curve.layers) - 1, 1)
    for layer in range(len(curve.layers)):
        distances = [row[layer] for row in curve.distances]
        panel.plot((0.0, *curve.epochs), (0.0, *distances), color=colours(layer / last), lw=1)
    panel.set_ylim(0, 1.05)


def train_losses(curve: RotationCurve) -> tuple[list[float], list[float]]:
    """Return the whole epochs with a known train loss, and that loss."""
    known = [
        (epoch, loss)
        for epoch, loss in zip(curve.epochs, curve.train_loss, strict=True)
        if float(epoch).is_integer() and math.isfinite(loss)
    ]
    return [epoch for epoch, _ in known], [loss for _, loss in known]
