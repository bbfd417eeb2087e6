"""Finding 4: a warmup keeps high rates from turning layers before they learn."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tuner.paper.figures import draw_layers, panels
from tuner.paper.finding import Finding, Held, Judgement
from tuner.paper.grid import Choice, Grid
from tuner.paper.runs import by_value, mean_and_error, percent

_TASK = "warmup-resnet"
# Of 200 epochs: 0, 5, 10 and 15, and the same shares of the small run's 16.
_WARMUPS = {"full": (0.0, 5.0, 10.0, 15.0), "small": (0.0, 0.4, 0.8, 1.2)}
# The authors' rate. In small it takes a higher one for a run without warmup to suffer.
_RATES = {"full": 3.0**-1, "small": 1.0}
_LAYCA_RATES = {"full": 3.0**-3, "small": 3.0**-2}
_PAPER = (83.58, 92.43, 92.09, 92.30)
_PAPER_LAYCA = 92.09


def _grids(scale: str) -> tuple[Grid, ...]:
    sgd: dict[str, Choice] = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 2e-3,
        "lr": _RATES[scale],
    }
    layca: dict[str, Choice] = {"optimizer": "layca", "momentum": 0.0, "warmup_epochs": 0.0}
    return (
        Grid(_TASK, "warmup", {"warmup_epochs": _WARMUPS[scale]}, sgd),
        Grid(_TASK, "warmup-layca", {"lr": (_LAYCA_RATES[scale],)}, layca),
    )


def _judge(runs: pd.DataFrame) -> Judgement:
    sgd, layca = (runs[runs["grid"] == name] for name in ("warmup", "warmup-layca"))
    by_warmup = by_value(sgd, "warmup_epochs")
    rows = [
        _row(f"SGD + L2, {warmup:g} epochs of warmup", of_warmup, paper)
        for (warmup, of_warmup), paper in zip(by_warmup.items(), _PAPER, strict=True)
    ]
    rows.append(_row("Layca, none", layca, _PAPER_LAYCA))
    tests = {warmup: mean_and_error(of_warmup["test"]) for warmup, of_warmup in by_warmup.items()}
    none, best = tests.pop(0.0), max(tests.values())
    needs = best[0] - best[1] > none[0] + none[1]
    own = mean_and_error(layca["test"])
    without = own[0] + own[1] >= best[0]
    words = (
        f"SGD {'tests better' if needs else 'does not clearly test better'} with a warmup (by "
        f"{100 * (best[0] - none[0]):.2f} points at best); Layca without one "
        f"{'does as well' if without else 'does less well'} as the best of them"
    )
    held: Held = "held" if needs and without else "held in part" if needs or without else "not held"
    return Judgement(held, words, pd.DataFrame(rows))


def _row(what: str, runs: pd.DataFrame, paper: float) -> dict[str, str]:
    return {
        "training": what,
        "test, %": percent(runs["test"]),
        "paper": f"{paper:.2f}",
        "first layer turned": f"{runs['first'].mean():.2f}",
        "hidden layers turned": f"{runs['turned'].mean():.2f}",
    }


def _draw(runs: pd.DataFrame) -> Figure:
    sgd = runs[runs["grid"] == "warmup"]
    shown = [
        (f"{warmup:g} epochs", of_warmup["trial"].iloc[0])
        for warmup, of_warmup in by_value(sgd, "warmup_epochs").items()
    ]
    shown.append(("Layca, none", runs[runs["grid"] == "warmup-layca"]["trial"].iloc[0]))
    figure, axes = panels([title for title, _ in shown], "epoch", "distance of each layer")
    for panel, (_, trial) in zip(axes, shown, strict=True):
        draw_layers(panel, trial.curve)
    return figure


FINDING = Finding(
    name="warmup",
    title="Learning-rate warmup",
    claim=(
        "a deep residual net needs a warmup under SGD at a high rate, since without one its first "
        "steps turn layers without learning; Layca needs none (section 5)"
    ),
    grids=_grids,
    judge=_judge,
    draw=_draw,
)
