"""Finding 6: the further the first layer has turned, the more its features have been learnt."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.finding import Finding, Judgement
from tuner.paper.grid import Choice, Grid
from tuner.paper.runs import by_value, percent, power_of_three, rank_correlation

_LAYER = "hidden1.weight"
_SIDE = 28
_UNITS = range(5, 10)  # the ones that the authors picture
# Distance of the first layer, and test accuracy in %, by learning rate.
_PAPER = {2.0: (0.90, 96.75), 2.5: (0.60, 96.60), 3.0: (0.30, 96.54), 4.0: (0.11, 95.81)}


def _grids(scale: str) -> tuple[Grid, ...]:
    rates = tuple(3.0**-power for power in _PAPER)
    constants: dict[str, Choice] = {"optimizer": "layca", "momentum": 0.0}
    return (Grid("mnist-features", "layca", {"lr": rates}, constants),)


def _judge(runs: pd.DataFrame) -> Judgement:
    rows = []
    by_rate = reversed(by_value(runs, "lr").items())
    for (rate, of_rate), (turned, test) in zip(by_rate, _PAPER.values(), strict=True):
        rows.append(
            {
                "rate": power_of_three(rate),
                "first layer turned": f"{of_rate['first'].mean():.2f}",
                "paper, turned": f"{turned:.2f}",
                "test, %": percent(of_rate["test"]),
                "paper, test": f"{test:.2f}",
            }
        )
    together, low, high = rank_correlation(runs, "first", "test")
    words = (
        f"over {len(runs)} runs Spearman's correlation of the first layer's final distance with "
        f"test accuracy is {together:.2f} (95 % interval {low:.2f} to {high:.2f})"
    )
    return Judgement("held" if low > 0 else "not held", words, pd.DataFrame(rows))


def _draw(runs: pd.DataFrame) -> Figure:
    by_rate = [of_rate.iloc[0] for of_rate in by_value(runs, "lr").values()]
    figure = Figure(figsize=(1.1 * len(_UNITS) + 1.2, 1.1 * len(by_rate)), layout="constrained")
    axes = figure.subplots(len(by_rate), len(_UNITS), squeeze=False)
    for row, run in zip(axes, by_rate, strict=True):
        weights = run["trial"].weights()[_LAYER]
        for panel, unit in zip(row, _UNITS, strict=True):
            panel.imshow(weights[unit].reshape(_SIDE, _SIDE).numpy(), cmap="gray")
            panel.set_xticks([])
            panel.set_yticks([])
        label = f"{power_of_three(run['lr'])}\nturned {run['first']:.2f}"
        row[0].set_ylabel(label, fontsize=8)
    return figure


FINDING = Finding(
    name="features",
    title="Features of the first layer",
    claim=(
        "on MNIST, the further the first layer turns, the more its features are learnt rather than "
        "left from initialisation, and the better the net tests (section 6)"
    ),
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
