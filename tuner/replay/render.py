"""A comparison of schedulers as JSON, as a table and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tuner.errors import InvalidInput
from tuner.replay.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg


Rectangle = tuple[float, float, float, float]  # left, top, right, bottom; down is positive


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float],
    *,
    radius: float,
    gap: float,
) -> list[tuple[float, float]]:
    """Return the left and top of a label for each anchor, so that they overlap as little as can be.

    One after the other takes the first free place beside its anchor, or above or below.

    Args:
        anchors: the centres of markers; y is positive downwards here.
        sizes: width and height of each label.
        bounds: width and height of the area that the labels should be within.
        radius: half the size of a marker.
        gap: left free between a marker or a label and the next label.
    """
    away = radius + gap
    taken = [(x - away, y - radius, x + away, y + radius) for x, y in anchors]
    places = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        middle = y - height / 2
        options = [(x + away, middle), (x - away - width, middle)]
        for rows in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6):
            top = middle + rows * height
            options += [(x + away, top), (x - away - width, top), (math.floor(x - width / 2), top)]
        left, top = min(options, key=lambda at: _overlap((*at, width, height), taken, bounds))
        taken.append((left - gap, top, left + width + gap, top + height))
        places.append((left, top))
    return places


def _overlap(
    label: tuple[float, float, float, float],
    taken: Sequence[Rectangle],
    bounds: tuple[float, float],
) -> float:
    """What a label (left, top, width, height) covers; worse, what of it lies out of bounds."""
    left, top, width, height = label
    here = (left, top, left + width, top + height)
    outside = width * height - _common(here, (0, 0, *bounds))
    # Rounded, so that a label that only touches another is free.
    return round(sum(_common(here, other) for other in taken) + 9 * outside, 6)


def _common(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


Floats = npt.NDArray[np.float64]

_SUFFIXES = (".png", ".svg")
_ROWS = 16
_MARKER = "●"
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
_DPI = 150
_POINTS_PER_INCH = 72


@dataclass(frozen=True)
class _Point:
    name: str
    cost: float
    loss: float
    error: float


def plotted(comparison: Comparison, width: int) -> Text:
    """Return the plot in so many columns; nothing if no loss is known.

    Epochs per trial are on a logarithmic scale and losses on a square root's, on which those that
    lose little stay apart though one loses much.
    """
    points = _points(comparison)
    if not points:
        return Text()
    costs, losses = _cost_ticks(points), _loss_ticks(points)
    words = {loss: f"{loss:g}" for loss in losses}
    margin = max(len(word) for word in words.values()) + 1
    columns = max(width - margin - 2, 20)
    x = _axis(math.log(costs[0]), math.log(costs[-1]), columns - 1)
    y = _axis(math.sqrt(losses[-1]), math.sqrt(losses[0]), _ROWS - 1)
    at = [(round(x(math.log(p.cost))), round(y(math.sqrt(p.loss)))) for p in points]
    labels = place_labels(
        [(column + 0.5, row + 0.5) for column, row in at],
        [(len(p.name), 1) for p in points],
        (columns, _ROWS),
        radius=0.5,
        gap=1,
    )
    cells = [[(" ", "")] * columns for _ in range(_ROWS)]
    for number, (point, (left, top)) in enumerate(zip(points, labels, strict=True)):
        style = _COLOURS[number % len(_COLOURS)]
        for offset, letter in enumerate(point.name):
            if 0 <= int(left) + offset < columns and 0 <= top < _ROWS:
                cells[int(top)][int(left) + offset] = (letter, style)
    for number, (column, row) in enumerate(at):
        cells[row][column] = (_MARKER, _COLOURS[number % len(_COLOURS)])
    # Zero first, and then from the largest down.
    at_rows = _spread(
        [(round(y(math.sqrt(loss))), words[loss]) for loss in (losses[0], *losses[:0:-1])], 2
    )
    at_columns = _spread([(round(x(math.log(cost))), f"{cost:g}") for cost in costs], 5)
    text = Text("validation loss, mean\n")
    for row, line in enumerate(cells):
        text.append(f"{at_rows.get(row, ''):>{margin}} {'┤' if row in at_rows else '│'}")
        for letter, style in line:
            text.append(letter, style)
        text.append("\n")
    ruler = "".join("┬" if column in at_columns else "─" for column in range(columns))
    numbers = [" "] * (columns + 1)
    for column, word in at_columns.items():
        left = min(max(column - len(word) // 2, 0), columns - len(word))
        numbers[left : left + len(word)] = word
    indent = " " * (margin + 1)
    text.append(f"{indent}└{ruler}\n{indent} {''.join(numbers).rstrip()}\n")
    text.append(f"{'epochs per trial':>{margin + 2 + columns}}\n")
    return text


def check_picture(path: Path) -> None:
    """Raise InvalidInput where a picture cannot go: before the work, not after it."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInput(
            f"a plot must be a file that ends in {' or '.join(_SUFFIXES)}, got {str(path)!r}; "
            "rename it"
        )
    if not path.parent.is_dir():
        raise InvalidInput(
            f"the folder of the plot must exist, got {str(path)!r}; make it or choose another file"
        )


def write_picture(comparison: Comparison, path: Path) -> None:
    """Draw the plot, with the standard errors of the losses, to a .png or .svg file.

    The axes are those of `plotted`. A file that is there is replaced.

    Raises:
        InvalidInput: it has another suffix, or cannot be written.
    """
    check_picture(path)
    # Only a picture needs it: it takes longer to import than all the rest here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9, 5.5), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    recording = comparison.recording
    axes.set_title(
        f"{recording.name}: {comparison.repeats} draws of {comparison.trials} trials, "
        f"{comparison.workers} at a time"
    )
    axes.set_xlabel("epochs per trial")
    axes.set_ylabel(f"validation loss: {recording.metric} lost by selecting another trial")
    axes.spines[["top", "right"]].set_visible(False)
    points = _points(comparison)
    if points:
        costs, losses = _cost_ticks(points), _loss_ticks(points)
        axes.set_xscale("log")
        axes.set_yscale("function", functions=(_root, np.square))
        axes.set_xlim(costs[0], costs[-1])
        axes.set_ylim(0, losses[-1])
        axes.set_xticks(costs, [f"{cost:g}" for cost in costs])
        axes.set_yticks(losses, [f"{loss:g}" for loss in losses])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.2)
    for number, point in enumerate(points):
        axes.errorbar(
            point.cost,
            point.loss,
            yerr=[[min(point.error, point.loss)], [point.error]],
            fmt="o",
            color=f"C{number % 10}",
            clip_on=False,
            elinewidth=1,
        )
    canvas.draw()  # only now it is known where everything is
    figure.set_layout_engine("none")
    _label(axes, canvas.get_renderer(), points)
    try:
        figure.savefig(path)
    except OSError as error:
        raise InvalidInput(
            f"the plot must be writable, got {str(path)!r} ({error.strerror or error}); "
            "choose another file"
        ) from error


def _root(losses: Floats) -> Floats:
    # The axis asks below zero too.
    return np.sqrt(np.maximum(losses, 0.0))


def _label(axes: Axes, renderer: RendererAgg, points: Sequence[_Point]) -> None:
    """Write the names next to the points, with a thin line where a name is not beside its own."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=8)
    box = axes.get_window_extent()
    at = [axes.transData.transform((point.cost, point.loss)) for point in points]
    sizes = [renderer.get_text_width_height_descent(p.name, font, False)[:2] for p in points]
    anchors = [(x - box.x0, box.y1 - y) for x, y in at]
    places = place_labels(anchors, sizes, (box.width, box.height), radius=8, gap=4)
    for number, (point, (_, height)) in enumerate(zip(points, sizes, strict=True)):
        (x, y), (left, top) = anchors[number], places[number]
        middle = top + height / 2
        beside = abs(y - middle) <= height
        note = axes.annotate(
            point.name,
            (point.cost, point.loss),
            ((left - x) * _POINTS_PER_INCH / _DPI, (y - middle) * _POINTS_PER_INCH / _DPI),
            textcoords="offset points",
            verticalalignment="center",
            fontproperties=font,
            color=f"C{number % 10}",
            arrowprops=None if beside else {"arrowstyle": "-", "lw": 0.5, "alpha": 0.5},
        )
        note.set_in_layout(False)


def _axis(low: float, high: float, length: float) -> Callable[[float], float]:
    """Return what maps `low` to 0 and `high` to `length`."""
    return lambda value: (value - low) / (high - low) * length


def _spread(ticks: Sequence[tuple[int, str]], apart: int) -> dict[int, str]:
    """Return the words of ticks by place, without those that are too close to an earlier one."""
    kept: dict[int, str] = {}
    for place, word in ticks:
        if all(abs(place - other) >= apart for other in kept):
            kept[place] = word
    return kept


def _points(comparison: Comparison) -> list[_Point]:
    return [
        _Point(
            name,
            f.epochs_per_trial,
            max(f.val_loss_mean, 0.0),
            0.0 if math.isnan(f.val_loss_se) else f.val_loss_se,
        )
        for name, f in comparison.schedulers.items()
        if math.isfinite(f.val_loss_mean)
    ]


def _cost_ticks(points: Sequence[_Point]) -> list[float]:
    """Round numbers, ascending, from below the least cost to above the largest."""
    least, most = min(p.cost for p in points), max(p.cost for p in points)
    ticks = _round_numbers(least / 10, most * 10)
    above = next(tick for tick in ticks if tick >= most)
    below = next(tick for tick in reversed(ticks) if tick <= least and tick < above)
    return [tick for tick in ticks if below <= tick <= above]


def _loss_ticks(points: Sequence[_Point]) -> list[float]:
    """Zero, and round numbers, ascending, to above the largest loss and its error."""
    most = max(p.loss + p.error for p in points) or 0.01
    ticks = _round_numbers(most / 100, most * 10)
    above = next(tick for tick in ticks if tick >= most)
    return [0.0, *(tick for tick in ticks if tick <= above)]


def _round_numbers(least: float, most: float) -> list[float]:
    """1, 2 and 5 times the powers of ten, ascending."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    numbers = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return [number for number in numbers if least <= number <= most]


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
