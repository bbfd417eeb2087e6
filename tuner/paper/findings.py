"""The paper's findings by name, each with its grids, its judgement and its plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from tuner.paper.finding import Finding, Held, Judgement, overall, share_held
from tuner.paper.grids import (
    ADAPTIVE,
    TASKS,
    Choice,
    Grid,
    adaptive,
    adaptive_layca,
    layca,
    sgd,
    sgd_l2,
)
from tuner.paper.plots import in_order, layer_lines, layer_rows, panels, train_losses
from tuner.paper.runs import (
    by_value,
    chosen,
    mean_and_error,
    percent,
    power_of_three,
    rank_correlation,
)
from tuner.rotation import RotationCurve
from tuner.vega import BLUE, ORANGE, AnyChart, number_of, values

_ALPHAS = {
    "full": (-0.8, -0.6, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    "small": (-0.6, -0.3, 0.0, 0.3, 0.6),
}
# The authors' best. The small runs have a fiftieth of the steps, so their best rate is higher.
_RATE = {"full": 3.0**-3, "small": 3.0**-2}
# Test accuracy, %, at alpha -.6, 0 and +.6.
_ALPHA_IN_PAPER = {
    "c10-cnn1": (83.11, 88.45, 68.67),
    "c100-resnet": (44.26, 59.81, 29.63),
    "tiny-cnn": (40.41, 50.89, 28.21),
    "c10-cnn2": (92.16, 93.40, 86.79),
    "c100-wrn": (74.67, 80.69, 73.10),
}


def _alpha_grids(scale: str) -> tuple[Grid, ...]:
    constants: dict[str, Choice] = {"optimizer": "layca", "momentum": 0.0, "lr": _RATE[scale]}
    return tuple(Grid(task, "alpha", {"alpha": _ALPHAS[scale]}, constants) for task in TASKS)


def _judge_alpha(runs: pd.DataFrame) -> Judgement:
    rows, held = [], {}
    for task, of_task in runs.groupby("task", sort=False):
        row: dict[str, object] = {"task": task}
        by_alpha = by_value(of_task, "alpha")
        for alpha, of_alpha in by_alpha.items():
            row[f"alpha {alpha:+g}"] = percent(of_alpha["test"])
        row["paper: -.6 / 0 / +.6"] = " / ".join(
            f"{value:.2f}" for value in _ALPHA_IN_PAPER[str(task)]
        )
        rows.append(row)
        means = {alpha: of_alpha["test"].mean() for alpha, of_alpha in by_alpha.items()}
        held[str(task)] = means[0.0] > max(means[-0.6], means[0.6])
    words = f"equal rates (alpha 0) test better than alpha -.6 and +.6 {share_held(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw_alpha(runs: pd.DataFrame) -> AnyChart:
    means = runs.groupby(["task", "alpha"], sort=False)["test"].transform("mean")
    rows = [
        {"task": task, "alpha": float(alpha), "test": float(test), "mean": float(mean)}
        for task, alpha, test, mean in zip(
            runs["task"], runs["alpha"], runs["test"], means, strict=True
        )
    ]
    base = alt.Chart().encode(alt.X(**number_of("alpha", "alpha")))
    chart: AnyChart = alt.layer(
        base.mark_line(color=BLUE).encode(alt.Y(**number_of("mean", "test accuracy"))),
        base.mark_point(color=BLUE, filled=True, opacity=1).encode(
            alt.Y(**number_of("test", "test accuracy"))
        ),
    )
    return panels(chart, rows, column="task")


ALPHA = Finding(
    name="alpha",
    title="Layers that turn at different rates",
    claim="test accuracy is best when all layers turn at the same rate, alpha 0 (section 4)",
    grids=_alpha_grids,
    judge=_judge_alpha,
    draw=_draw_alpha,
)


_TASK = "warmup-resnet"
# 0, 5, 10 and 15 of the full run's 200 epochs, and the same shares of the small run's 16 epochs.
_WARMUPS = {"full": (0.0, 5.0, 10.0, 15.0), "small": (0.0, 0.4, 0.8, 1.2)}
# The authors' rate. A small run without warmup gets worse only at a higher rate.
_RATES = {"full": 3.0**-1, "small": 1.0}
_LAYCA_RATES = {"full": 3.0**-3, "small": 3.0**-2}
_WARMUP_IN_PAPER = (83.58, 92.43, 92.09, 92.30)
_PAPER_LAYCA = 92.09


def _warmup_grids(scale: str) -> tuple[Grid, ...]:
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


def _judge_warmup(runs: pd.DataFrame) -> Judgement:
    sgd, layca = (runs[runs["grid"] == name] for name in ("warmup", "warmup-layca"))
    by_warmup = by_value(sgd, "warmup_epochs")
    rows = [
        _row(f"SGD + L2, {warmup:g} epochs of warmup", of_warmup, paper)
        for (warmup, of_warmup), paper in zip(by_warmup.items(), _WARMUP_IN_PAPER, strict=True)
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


def _draw_warmup(runs: pd.DataFrame) -> AnyChart:
    sgd = runs[runs["grid"] == "warmup"]
    shown = [
        (f"{warmup:g} epochs", of_warmup["trial"].iloc[0])
        for warmup, of_warmup in by_value(sgd, "warmup_epochs").items()
    ]
    shown.append(("Layca, none", runs[runs["grid"] == "warmup-layca"]["trial"].iloc[0]))
    rows = [row for title, trial in shown for row in layer_rows(trial.curve, warmup=title)]
    return panels(layer_lines(), rows, column="warmup")


WARMUP = Finding(
    name="warmup",
    title="Learning-rate warmup",
    claim=(
        "a deep residual net needs a warmup under SGD at a high rate, since without one its first "
        "steps turn layers without learning; Layca needs none (section 5)"
    ),
    grids=_warmup_grids,
    judge=_judge_warmup,
    draw=_draw_warmup,
)


_LAYER = "hidden1.weight"
_SIDE, _PIXEL = 28, 3  # of a unit's square of weights, and of a weight in the picture
_UNITS = range(5, 10)  # the units in the authors' picture
# Distance of the first layer, and test accuracy in %, by learning rate.
_FEATURES_IN_PAPER = {
    2.0: (0.90, 96.75),
    2.5: (0.60, 96.60),
    3.0: (0.30, 96.54),
    4.0: (0.11, 95.81),
}


def _features_grids(scale: str) -> tuple[Grid, ...]:
    rates = tuple(3.0**-power for power in _FEATURES_IN_PAPER)
    constants: dict[str, Choice] = {"optimizer": "layca", "momentum": 0.0}
    return (Grid("mnist-features", "layca", {"lr": rates}, constants),)


def _judge_features(runs: pd.DataFrame) -> Judgement:
    rows = []
    by_rate = reversed(by_value(runs, "lr").items())
    for (rate, of_rate), (turned, test) in zip(by_rate, _FEATURES_IN_PAPER.values(), strict=True):
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


def _draw_features(runs: pd.DataFrame) -> AnyChart:
    rows = []
    for of_rate in by_value(runs, "lr").values():
        run = of_rate.iloc[0]
        weights = run["trial"].weights()[_LAYER]
        title = f"{power_of_three(run['lr'])}, turned {run['first']:.2f}"
        for unit in _UNITS:
            rows += _pixels(weights[unit].tolist(), run=title, unit=unit)
    pixel: dict[str, Any] = {"type": "ordinal", "axis": None}
    chart = (
        alt.Chart()
        .mark_rect()
        .encode(
            alt.X(field="x", **pixel),
            alt.Y(field="y", **pixel),
            alt.Color(
                field="weight",
                type="quantitative",
                scale=alt.Scale(range=["black", "white"], domain=[0, 1]),
                legend=None,
            ),
        )
        .properties(width=_PIXEL * _SIDE, height=_PIXEL * _SIDE)
    )
    panels_by_run: AnyChart = chart.facet(
        data=values(rows),
        row=alt.Row(
            field="run",
            header=alt.Header(labelAngle=0, labelAlign="left"),
            **in_order(rows, "run"),
            title=None,
        ),
        column=alt.Column(field="unit", header=None, **in_order(rows, "unit"), title=None),
        spacing=8,
    )
    return panels_by_run


def _pixels(weights: Sequence[float], **panel: Any) -> list[dict[str, Any]]:
    """Return a row for each weight of a unit, scaled so that a unit spans black to white."""
    low, high = min(weights), max(weights)
    return [
        {
            **panel,
            "x": at % _SIDE,
            "y": at // _SIDE,
            "weight": round((weight - low) / ((high - low) or 1.0), 4),
        }
        for at, weight in enumerate(weights)
    ]


FEATURES = Finding(
    name="features",
    title="Features of the first layer",
    claim=(
        "on MNIST, the further the first layer turns, the more its features are learnt rather than "
        "left from initialisation, and the better the net tests (section 6)"
    ),
    grids=_features_grids,
    judge=_judge_features,
    draw=_draw_features,
)


# The train loss to reach: a third of the loss of a random guess of ten classes. Most runs reach it.
_LEVEL = math.log(10) / 3
# A correlation this strong is visible in a plot.
_STRONG = 0.5


def _speed_grids(scale: str) -> tuple[Grid, ...]:
    return tuple(layca(task, scale) for task in TASKS)


def _judge_speed(runs: pd.DataFrame) -> Judgement:
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
        f"(Spearman's correlation beyond ±{_STRONG:g}, its 95 % interval apart from 0) "
        f"{share_held(held)}"
    )
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _epochs_to(curve: RotationCurve) -> float:
    """Return the first epoch with a train loss below the level; NaN if there is none."""
    epochs, losses = train_losses(curve)
    below = [epoch for epoch, loss in zip(epochs, losses, strict=True) if loss < _LEVEL]
    return below[0] if below else math.nan


def _draw_speed(runs: pd.DataFrame) -> AnyChart:
    rows = [
        {"task": str(task), "rate": power_of_three(rate), "epoch": epoch, "loss": loss}
        for task, of_task in runs.groupby("task", sort=False)
        for rate, of_rate in reversed(by_value(of_task, "lr").items())
        for epoch, loss in zip(*train_losses(of_rate["trial"].iloc[0].curve), strict=True)
    ]
    chart = (
        alt.Chart()
        .mark_line(strokeWidth=1.2)
        .encode(
            alt.X(**number_of("epoch", "epoch", zero=True)),
            alt.Y(
                **number_of("loss", "train loss", type="log", nice=False),
                axis=alt.Axis(format="~g", tickCount=4),
            ),
            alt.Color(field="rate", **in_order(rows, "rate"), title="rate"),
        )
    )
    return panels(chart, rows, column="task")


SPEED = Finding(
    name="speed",
    title="Training speed",
    claim="how fast a net trains is a matter of how its layers turn (supplementary material)",
    grids=_speed_grids,
    judge=_judge_speed,
    draw=_draw_speed,
)


def best_by_grid(
    of_task: pd.DataFrame, shown: Mapping[str, str], paper: Sequence[float]
) -> tuple[list[dict[str, str]], dict[str, pd.DataFrame]]:
    """Return a row for each grid of a task, and the runs (all seeds) at its best rate.

    Args:
        of_task: the runs of one task.
        shown: the name of each grid in the table, by its label.
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


def _draw_best_by_layer(
    runs: pd.DataFrame, grids: Mapping[str, str], titles: Mapping[str, str] | None = None
) -> AnyChart:
    """Draw each layer's distance in the best run of every grid: tasks side by side, grids below.

    Args:
        runs: the runs of all tasks.
        grids: the name of each grid in the picture, by its label.
        titles: the title of each task in the picture; by default its name.
    """
    rows = [
        row
        for task, of_task in runs.groupby("task", sort=False)
        for label, name in grids.items()
        for row in layer_rows(
            chosen(of_task[of_task["grid"] == label], ["lr"])["trial"].iloc[0].curve,
            task=(titles or {}).get(str(task), str(task)),
            by=name,
        )
    ]
    return panels(layer_lines(), rows, column="task", row="by")


# Test accuracy, %, of SGD without L2 and of Layca, each at its best rate.
_RATES_IN_PAPER = {
    "c10-cnn1": (79.68, 88.45),
    "c100-resnet": (45.53, 59.81),
    "tiny-cnn": (42.26, 50.89),
    "c10-cnn2": (91.70, 93.40),
    "c100-wrn": (76.74, 80.69),
}


def _rates_grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (sgd, layca))


def _judge_rates(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        fitting = of_task[of_task["fits"]]
        together, low, high = rank_correlation(fitting, "turned", "test")
        known = not math.isnan(together)
        if known:
            held[str(task)] = low > 0
        of_grids, _ = best_by_grid(
            of_task, {"sgd": "SGD", "layca": "Layca"}, _RATES_IN_PAPER[str(task)]
        )
        of_grids[0] |= {
            "fit": f"{len(fitting)}/{len(of_task)}",
            "turned ~ test": f"{together:.2f} ({low:.2f}, {high:.2f})" if known else "",
        }
        rows += of_grids
    words = (
        "among the runs that fit their training data, those whose hidden layers turned further "
        f"test better (the 95 % interval of Spearman's correlation is above 0) {share_held(held)}"
    )
    # Three runs show nothing, so a task without more runs counts neither for nor against the claim.
    few = [task for task in dict.fromkeys(runs["task"]) if task not in held]
    if few:
        words += f"; too few fit to tell on {', '.join(few)}"
    return Judgement(overall(held), words, pd.DataFrame(rows).fillna(""))


def _draw_rates(runs: pd.DataFrame) -> AnyChart:
    rows = [
        {"task": task, "optimizer": grid, "fits": bool(fits), "turned": turned, "test": test}
        for task, grid, fits, turned, test in zip(
            runs["task"],
            runs["grid"],
            runs["fits"],
            runs["turned"].map(float),
            runs["test"].map(float),
            strict=True,
        )
    ]
    grids = ["sgd", "layca"]
    chart = (
        alt.Chart()
        .mark_point(filled=True, size=60)
        .encode(
            alt.X(**number_of("turned", "hidden layers' final distance", domain=[0, 1.1])),
            alt.Y(**number_of("test", "test accuracy")),
            alt.Color(
                field="optimizer",
                type="nominal",
                scale=alt.Scale(domain=grids, range=[BLUE, ORANGE]),
            ),
            alt.Shape(
                field="optimizer",
                type="nominal",
                scale=alt.Scale(domain=grids, range=["circle", "triangle-up"]),
            ),
            alt.Opacity(
                field="fits",
                type="nominal",
                title="fits its training data",
                scale=alt.Scale(domain=[True, False], range=[0.9, 0.25]),
            ),
        )
    )
    return panels(chart, rows, column="task")


RATES = Finding(
    name="rates",
    title="Learning rate, rotation and generalisation",
    claim=(
        "over learning rates, larger layer rotations mean better test accuracy, up to a distance "
        "of 1 (sections 4 and 5)"
    ),
    grids=_rates_grids,
    judge=_judge_rates,
    draw=_draw_rates,
)


_WEIGHT_DECAY_NAMES = {"sgd": "SGD", "sgd-l2": "SGD + L2"}
# Test accuracy, %, of SGD and SGD + L2 at their best rates.
_WEIGHT_DECAY_IN_PAPER = {
    "c10-cnn1": (79.68, 88.15),
    "c100-resnet": (45.53, 60.11),
    "tiny-cnn": (42.26, 50.04),
    "c10-cnn2": (91.70, 93.28),
    "c100-wrn": (76.74, 80.45),
}


def _weight_decay_grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (sgd, sgd_l2))


def _judge_weight_decay(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        of_grids, best = best_by_grid(
            of_task, _WEIGHT_DECAY_NAMES, _WEIGHT_DECAY_IN_PAPER[str(task)]
        )
        rows += of_grids
        without, decayed = best["sgd"], best["sgd-l2"]
        held[str(task)] = bool(
            decayed["test"].mean() > without["test"].mean()
            and decayed["turned"].mean() > without["turned"].mean()
        )
    words = f"with L2 the layers turn further and the net tests better {share_held(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw_weight_decay(runs: pd.DataFrame) -> AnyChart:
    return _draw_best_by_layer(runs, _WEIGHT_DECAY_NAMES)


WEIGHT_DECAY = Finding(
    name="weight-decay",
    title="Weight decay",
    claim=(
        "weight decay lets the layers of SGD turn further, nearly to a distance of 1, and raises "
        "test accuracy with it (section 5)"
    ),
    grids=_weight_decay_grids,
    judge=_judge_weight_decay,
    draw=_draw_weight_decay,
)


_ADAPTIVE_NAMES = {"adaptive": "as it is", "adaptive-layca": "with Layca"}
# Test accuracy, %, of the adaptive method and of the same with Layca. The paper gives the last two
# tasks' adaptive methods L2; here they have none, as the method itself has none by default.
_ADAPTIVE_IN_PAPER = {
    "c10-cnn1": (84.87, 88.25),
    "c100-resnet": (47.82, 58.16),
    "tiny-cnn": (37.72, 50.55),
    "c10-cnn2": (91.85, 93.47),
    "c100-wrn": (79.36, 79.64),
}


def _adaptive_grids(scale: str) -> tuple[Grid, ...]:
    return tuple(make(task, scale) for task in TASKS for make in (adaptive, adaptive_layca))


def _judge_adaptive(runs: pd.DataFrame) -> Judgement:
    rows: list[dict[str, str]] = []
    held = {}
    for task, of_task in runs.groupby("task", sort=False):
        method = ADAPTIVE[str(task)]
        names = {"adaptive": method, "adaptive-layca": f"{method} + Layca"}
        of_grids, best = best_by_grid(of_task, names, _ADAPTIVE_IN_PAPER[str(task)])
        rows += of_grids
        held[str(task)] = bool(
            best["adaptive-layca"]["test"].mean() > best["adaptive"]["test"].mean()
        )
    words = f"an adaptive method tests better with Layca than without {share_held(held)}"
    return Judgement(overall(held), words, pd.DataFrame(rows))


def _draw_adaptive(runs: pd.DataFrame) -> AnyChart:
    methods = {task: f"{task}, {method}" for task, method in ADAPTIVE.items()}
    return _draw_best_by_layer(runs, _ADAPTIVE_NAMES, methods)


ADAPTIVE_METHODS = Finding(
    name="adaptive",
    title="Adaptive methods",
    claim=(
        "adaptive methods generalise less well because their layers turn unevenly; with Layca they "
        "do as well as the others (section 5)"
    ),
    grids=_adaptive_grids,
    judge=_judge_adaptive,
    draw=_draw_adaptive,
)

# In the paper's order.
FINDINGS: dict[str, Finding] = {
    finding.name: finding
    for finding in (RATES, ALPHA, WEIGHT_DECAY, WARMUP, ADAPTIVE_METHODS, FEATURES, SPEED)
}
