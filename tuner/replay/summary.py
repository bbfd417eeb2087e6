"""A comparison of schedulers as JSON, and as a table for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tuner.replay.bench import Comparison
from tuner.replay.plot import plotted

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
    """Return one JSON object with the figures of every scheduler; null where unknown."""
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
    """Print what was replayed, the table with the cheapest scheduler first, and the plot."""
    for line in _headlines(comparison):
        console.print(Text(line), soft_wrap=True)
    table = _table(comparison)
    # No narrower than it needs to be: rather too wide than with digits cut off.
    wide = console.options.update_width(10_000)
    table.width = console.measure(table, options=wide).maximum
    console.print()
    console.print(table, soft_wrap=True)
    console.print()
    console.print(plotted(comparison, min(console.width, 120)), soft_wrap=True, end="")


@contextmanager
def progress(steps: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr while it is a terminal; yield what moves it on by one step."""
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
            "the others are left out"
        )
    yield (
        f"loss: {recording.metric} at the end, of the trial selected against that of the best "
        "trial; above 0 is worse"
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
    """How many decimals all losses have: four if that shows anything of the largest."""
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
