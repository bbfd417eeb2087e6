"""Show a comparison of schedulers: as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tuner.files import check_picture
from tuner.replay.compare import Comparison, Figures

if TYPE_CHECKING:
    from tuner.vega import AnyChart

_ROW, _WIDTH = 24, 360  # pixels of a scheduler's row, and of a panel


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the picture of a comparison to a .png or .svg file; an existing file is replaced.

    Raises:
        InvalidInput: the file has another ending, or cannot be written.
    """
    check_picture(path)
    # Here, because importing Altair takes longer than everything else in this module.
    from tuner.vega import write_picture

    write_picture(draw_comparison(comparison), path)


def draw_comparison(comparison: Comparison) -> AnyChart:
    """Return a picture with a row for each scheduler, the cheapest on top.

    The left panel shows the epochs per trial, the right one the mean validation loss with its
    standard error. A scheduler is worth its cost if no row above it loses less.
    """
    import altair as alt

    from tuner.vega import BLUE, ORANGE, label, number_of, values

    by_cost = sorted(comparison.schedulers.items(), key=lambda item: item[1].epochs_per_trial)
    rows = [_row(name, figures) for name, figures in by_cost]
    known = [row for row in rows if row["loss"] is not None]
    order = [row["scheduler"] for row in rows]
    axis: dict[str, Any] = {"gridOpacity": 0.5, "domain": False, "ticks": False}
    colour = alt.Color(
        field="ours",
        type="nominal",
        scale=alt.Scale(domain=[False, True], range=[BLUE, ORANGE]),
        legend=None,
    )

    def panel(shown: list[dict[str, Any]], *, names: bool) -> alt.Chart:
        scheduler = alt.Y(
            field="scheduler",
            type="nominal",
            title=None,
            scale=alt.Scale(domain=order),
            axis=alt.Axis(grid=True, labels=names, labelLimit=200, **axis),
        )
        size = {"width": _WIDTH, "height": _ROW * len(order)}
        return alt.Chart(values(shown)).encode(scheduler, colour).properties(**size)

    def x(field: str, title: str, **scale: Any) -> alt.X:
        ticks = alt.Axis(format="~g", labelOverlap="greedy", gridOpacity=0.5)
        return alt.X(**number_of(field, title, **scale), axis=ticks)

    costs = panel(rows, names=True).encode(
        x("cost", "epochs per trial", type="log", nice=False, padding=12)
    )
    # A square-root scale separates small losses even if one scheduler loses much.
    title = f"validation loss: {comparison.recording.metric} lost by selecting another trial"
    root: dict[str, Any] = {"type": "sqrt", "zero": True}
    losses = panel(known, names=False)
    dot: dict[str, Any] = {"filled": True, "size": 70, "opacity": 1}
    heading = (
        f"{label(comparison.recording.name)}: {comparison.repeats} draws of {comparison.trials} "
        f"trials, {comparison.workers} at a time"
    )
    return alt.hconcat(
        costs.mark_point(**dot),
        alt.layer(
            losses.mark_rule().encode(x("low", title, **root), alt.X2(field="high")),
            losses.mark_point(**dot).encode(x("loss", title, **root)),
        ),
        title=alt.TitleParams(heading, anchor="start", fontSize=13, offset=10),
    )


def _row(name: str, figures: Figures) -> dict[str, Any]:
    """Return a scheduler's row of the picture; its loss is None if it is unknown."""
    row: dict[str, Any] = {
        "scheduler": name,
        "ours": name.startswith("rotation"),
        "cost": figures.epochs_per_trial,
        "loss": None,
    }
    if math.isfinite(figures.val_loss_mean):
        # A negative mean, of a scheduler that selects better trials by chance, has no root.
        loss = max(figures.val_loss_mean, 0.0)
        error = figures.val_loss_se if math.isfinite(figures.val_loss_se) else 0.0
        row |= {"loss": loss, "low": max(loss - error, 0.0), "high": loss + error}
    return row


_IN_JSON = (
    "epochs_per_trial",
    "speedup",
    "val_loss_mean",
    "val_loss_p90",
    "test_loss_mean",
    "test_loss_se",
    "best_kept",
)


def to_json(comparison: Comparison, path: str | Path) -> str:
    """Return one JSON object with the figures of every scheduler; unknown figures are null."""
    return json.dumps(
        {
            "file": str(path),
            "trials": comparison.trials,
            "repeats": comparison.repeats,
            "schedulers": {
                name: {key: _or_null(getattr(figures, key)) for key in _IN_JSON}
                for name, figures in comparison.schedulers.items()
            },
        },
        indent=2,
        allow_nan=False,
    )


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a description of the replay, and a table with the cheapest scheduler first."""
    for line in _headlines(comparison):
        console.print(Text(line), soft_wrap=True)
    table = _table(comparison)
    # As wide as the digits need, even where the terminal is narrower.
    wide = console.options.update_width(10_000)
    table.width = console.measure(table, options=wide).maximum
    console.print()
    console.print(table, soft_wrap=True)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr if that is a terminal.

    Args:
        steps: the number of steps.

    Yields:
        A function to call after each step.
    """
    console = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=steps)
        yield lambda: bar.advance(task)


def _headlines(comparison: Comparison) -> Iterator[str]:
    recording, workers = comparison.recording, comparison.workers
    whole = len(recording.trials)
    yield (
        f"{recording.name}: {comparison.repeats} random draws of {comparison.trials} of {whole} "
        f"trials, {recording.max_epochs} epochs each, {workers} worker{'s' * (workers != 1)}, "
        f"seed {comparison.seed}"
    )
    if recording.partial:
        yield (
            f"{whole} of {whole + recording.partial} trials reach the last epoch; "
            "the other trials are not used"
        )
    yield (
        f"loss: final {recording.metric} of the best trial against that of the selected trial; "
        "above 0 is worse"
    )


def _table(comparison: Comparison) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1, 0, 0),
    )
    table.add_column("scheduler", no_wrap=True)
    for name in (
        "epochs\n/trial",
        "\nspeedup",
        "validation loss\nmean ± se",
        "\np90",
        "test loss\nmean ± se",
        "best\nkept",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    digits = _digits(comparison)
    for name, figures in sorted(
        comparison.schedulers.items(), key=lambda item: item[1].epochs_per_trial
    ):
        table.add_row(
            name,
            _number(figures.epochs_per_trial, 2),
            _number(figures.speedup, 1),
            _with_error(figures.val_loss_mean, figures.val_loss_se, digits),
            _number(figures.val_loss_p90, digits),
            _with_error(figures.test_loss_mean, figures.test_loss_se, digits),
            "-" if math.isnan(figures.best_kept) else f"{figures.best_kept:.0%}",
            style="bold" if name.startswith("rotation") else "",
        )
    return table


def _digits(comparison: Comparison) -> int:
    """Return the number of decimals of all losses: at most four, unless the largest needs more."""
    losses = [
        abs(loss)
        for figures in comparison.schedulers.values()
        for loss in (figures.val_loss_mean, figures.test_loss_mean)
        if math.isfinite(loss) and loss
    ]
    exponent = math.floor(math.log10(max(losses))) if losses else -2
    return max(0, min(2 - exponent, 4)) if exponent >= -4 else 2 - exponent


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _with_error(mean: float, error: float, digits: int) -> str:
    if not math.isfinite(error):
        return _number(mean, digits)
    return f"{_number(mean, digits)} ± {_number(error, digits)}"


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
