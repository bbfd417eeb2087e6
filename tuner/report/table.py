"""A study's report as a table for the terminal, or as plain text for a file."""

from __future__ import annotations

import io
import math
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.report.document import headline, rows
from tuner.report.evidence import evidence
from tuner.study.result import StudyResult

_COLOURS = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}
# On a screen narrower than this a trial's parameters and reason go below the table.
_WIDE = 150


def print_report(
    result: StudyResult, console: Console, sort: str = "rank", top: int | None = None
) -> None:
    """Print the headline, what the study has shown of its pruning, and the ranked table.

    A wide screen shows everything in one table; a narrow one the figures first, then each trial's
    parameters and reason; what goes to a file is one line per trial, nothing cut.
    """
    records = rows(result, sort, top).to_dict("records")
    console.print(Text(headline(result), style="bold"), soft_wrap=not console.is_terminal)
    if not records:
        return
    where = [f"checkpoints: {result.checkpoints}"] if result.checkpoints else []
    for line in (*evidence(result), *where):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    words = {
        trial.number: _in_one_line(
            "  ".join(f"{name}={_number(v)}" for name, v in trial.setting.items())
        )
        for trial in result.trials
    }
    whole = not console.is_terminal
    if not whole and console.width < _WIDE:
        console.print(_figures(records, result))
        for row in records:
            details = Table.grid(padding=(0, 2))
            details.add_row(f"{row['rank']:>4}", Text(words[row["trial"]]))
            if row["reason"]:
                details.add_row("", Text(_in_one_line(row["reason"]), style="dim"))
            console.print(details)
        return
    table = _figures(records, result, words, no_wrap=whole)
    if not whole:
        console.print(table)
        return
    # As wide as it needs to be, whatever the console takes its width for.
    text = io.StringIO()
    Console(file=text, width=100_000, _environ={}).print(table)
    for line in text.getvalue().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def _figures(
    records: list[dict[Any, Any]],
    result: StudyResult,
    words: dict[int, str] | None = None,
    no_wrap: bool = False,
) -> Table:
    """One row per trial; with its parameters' words also the lowest layer's name and the reason."""
    padding = (0, 1) if words else (0, 1, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=padding)
    lowest = "rotation min (layer)" if words else "rotation min"
    right = {"rank", "trial", result.metric, "mean", "epochs", "seconds"}
    for name in ("rank", "trial", "state", result.metric, lowest, "mean", "epochs", "seconds"):
        table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for name in ("parameters", "reason") if words else ():
        table.add_column(name, no_wrap=no_wrap)
    for row in records:
        layer = f" ({row['rotation_min_layer']})" if words and row["rotation_min_layer"] else ""
        table.add_row(
            str(row["rank"]),
            str(row["trial"]),
            Text(row["state"], style=_COLOURS[row["state"]]),
            _number(row[result.metric]),
            Text(_distance(row["rotation_min"]) + layer),
            _distance(row["rotation_mean"]),
            f"{round(row['epochs'], 2):g}/{result.max_epochs}",
            f"{row['seconds']:.1f}",
            *((Text(words[row["trial"]]), Text(_in_one_line(row["reason"]))) if words else ()),
        )
    return table


def _in_one_line(text: str) -> str:
    return text.replace("\n", " ")


def _distance(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"
