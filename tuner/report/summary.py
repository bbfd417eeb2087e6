"""The summary of a study: its ranked rows, and the report as JSON, table and Parquet file."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.errors import unknown_name
from tuner.files import check_file, write_whole
from tuner.report.evidence import (
    ControlTrials,
    GroupComparison,
    RotationWorth,
    advised,
    control_trials,
    evidence,
    rotation_worth,
    started,
)
from tuner.report.formatting import distance, load_call, short_reason, study_arguments, target_words
from tuner.rotation import RotationTarget
from tuner.study.result import Status, StudyResult


def rows(result: StudyResult, sort: str = "rank", top: int | None = None) -> pd.DataFrame:
    """Return the ranked table, sorted and cut.

    Args:
        result: the study.
        sort: a column of `StudyResult.ranking`; parameters also without the prefix ``params/``.
            The metric is sorted best first, other columns are ascending.
        top: the number of rows, >= 0; None for all rows.

    Raises:
        InvalidInput: the table has no column `sort`.
    """
    table = result.ranking()
    if table.empty:
        return table
    column = sort if sort in table else f"params/{sort}"
    if column not in table:
        raise unknown_name("column to sort by", sort, [str(name) for name in table])
    descending = column == result.metric and result.mode == "max"
    if table[column].dropna().map(type).nunique() > 1 and not is_numeric_dtype(table[column]):
        table[column] = table[column].map(str)  # mixed types, such as None, "auto" and 0.5
    table = table.sort_values(column, ascending=not descending, kind="stable", na_position="last")
    return table if top is None else table.head(top)


def to_json(result: StudyResult, sort: str = "rank", top: int | None = None) -> str:
    """Return the report as one JSON object. Unknown values are null."""
    by_number = {trial.number: trial for trial in result.trials}
    table = rows(result, sort, top)
    return json.dumps(
        {
            "study": result.name,
            "metric": result.metric,
            "mode": result.mode,
            "max_epochs": result.max_epochs,
            "checkpoints": result.checkpoints,
            "rotation_target": result.rotation_target.to_dict(),
            "trials": [
                {
                    "rank": int(row["rank"]),
                    "trial": int(row["trial"]),
                    "state": row["state"],
                    "status": by_number[row["trial"]].status or row["state"],
                    "value": _known(row[result.metric]),
                    "rotation_min": _known(row["rotation_min"]),
                    "rotation_min_layer": row["rotation_min_layer"] or None,
                    "rotation_mean": _known(row["rotation_mean"]),
                    "epochs": _whole(row["epochs"]),
                    "seconds": round(row["seconds"], 3),
                    "params": {
                        name: None
                        if isinstance(value, float) and not math.isfinite(value)
                        else value
                        for name, value in by_number[row["trial"]].setting.items()
                    },
                    "reason": row["reason"],
                    "reason_short": short_reason(row["reason"]),
                }
                for row in table.to_dict("records")
            ],
            "saved": {"epochs": _whole(result.saved.epochs), "share": round(result.saved.share, 4)},
            "audits": _rounded(control_trials(result)),
            "rotation": _rounded(rotation_worth(result)),
            "advised": _rounded(advised(result)),
            "started": _rounded(started(result)),
        },
        indent=1,
    )


def headline(result: StudyResult) -> str:
    """Return the first line: the number of trials by state, and the epochs that pruning saved."""
    counts: Counter[str] = Counter(trial.status or trial.state for trial in result.trials)
    states = ", ".join(f"{counts[status]} {status}" for status in _COLOURS if counts[status])
    saved = result.saved
    spent = sum(trial.epochs for trial in result.trials if trial.state in ("complete", "pruned"))
    return (
        f"{result.name}: {len(result.trials)} trials ({states or 'none yet'}); pruning saved "
        f"{round(saved.epochs, 1):.15g} of {round(spent + saved.epochs, 1):.15g} epochs "
        f"({saved.share:.0%})"
    )


def _rounded(
    shown: ControlTrials | RotationWorth | GroupComparison | None,
) -> dict[str, Any] | None:
    """Return the fields of an evidence, with numbers to 6 decimals. Unknown values are None."""
    if shown is None:
        return None
    return {
        name: _known(round(value, 6)) if isinstance(value, float) else value
        for name, value in asdict(shown).items()
    }


def _known(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else round(float(value), 3)


_COLOURS: dict[Status, str] = {
    "complete": "green",
    "pruned": "yellow",
    "failed": "red",
    "running": "cyan",
    "paused": "blue",
    "interrupted": "magenta",
    "waiting": "magenta",
}
# On a narrower screen parameters and reasons are printed below the table.
_WIDE = 150


def print_report(
    result: StudyResult,
    console: Console,
    sort: str = "rank",
    top: int | None = None,
    *,
    name: str | None = None,
    folder: str | None = None,
) -> None:
    """Print the headline, the evidence, the ranked table, and how to load the best trial.

    On a wide screen the table also has the parameters and the short reasons. On a narrow screen
    they follow the table. In a file each trial is one line.

    Args:
        result: the study.
        console: the output.
        sort: the column to sort by, as for `rows`.
        top: the number of rows, >= 0; None for all rows.
        name: the name of the study in the shown commands; its own name by default.
        folder: the folder of all studies in the shown commands; None for the default.

    Raises:
        InvalidInput: the table has no column `sort`.
    """
    records = rows(result, sort, top).to_dict("records")
    console.print(Text(headline(result), style="bold"), soft_wrap=not console.is_terminal)
    if records:
        _print_trials(records, result, console)
    for line in _last_lines(result, len(records), result.name if name is None else name, folder):
        console.print(Text(line), soft_wrap=True)


def _print_trials(records: list[dict[Any, Any]], result: StudyResult, console: Console) -> None:
    # The default target is documented, so only another target is printed.
    own_target = result.rotation_target != RotationTarget()
    target = [f"target: {target_words(result.rotation_target)}"] if own_target else []
    where = [f"checkpoints: {result.checkpoints}"] if result.checkpoints else []
    for line in (*target, *evidence(result), *where):
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
                details.add_row("", Text(short_reason(row["reason"]), style="dim"))
            console.print(details)
        return
    table = _figures(records, result, words, no_wrap=whole)
    if not whole:
        console.print(table)
        return
    # The table is rendered at its full width. The console would wrap it at its own width.
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
    """Return a table with one row per trial.

    `words` holds the parameters as text, by trial number. With it, the table also has the reason
    and the layer with the least rotation.
    """
    padding = (0, 1) if words else (0, 1, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=padding)
    lowest = "rotation min (layer)" if words else "rotation min"
    right = {"rank", "trial", result.metric, "mean", "epochs", "seconds"}
    for name in ("rank", "trial", "state", result.metric, lowest, "mean", "epochs", "seconds"):
        table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for name in ("parameters", "reason") if words else ():
        table.add_column(name, no_wrap=no_wrap)
    status: dict[int, Status] = {t.number: t.status or t.state for t in result.trials}
    for row in records:
        layer = f" ({row['rotation_min_layer']})" if words and row["rotation_min_layer"] else ""
        table.add_row(
            str(row["rank"]),
            str(row["trial"]),
            Text(status[row["trial"]], style=_COLOURS[status[row["trial"]]]),
            _number(row[result.metric]),
            Text(distance(row["rotation_min"]) + layer),
            distance(row["rotation_mean"]),
            f"{round(row['epochs'], 2):g}/{result.max_epochs}",
            f"{row['seconds']:.1f}",
            *((Text(words[row["trial"]]), Text(short_reason(row["reason"]))) if words else ()),
        )
    return table


def _in_one_line(text: str) -> str:
    return text.replace("\n", " ")


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


_TOP = 20


def _last_lines(result: StudyResult, shown: int, name: str, folder: str | None) -> list[str]:
    """Return the lines below the table: the omitted trials, and how to load the best trial."""
    lines = []
    report = f"quarterturn report {study_arguments(name, folder)}"
    if len(result.trials) > shown:
        lines.append(f"{len(result.trials) - shown} more: {report}")
    if any(trial.reason for trial in result.trials):
        lines.append(f"everything about a trial: {report} --trial N")
    if any(trial.state == "complete" for trial in result.trials):
        best = result.best
        better = "larger" if result.mode == "max" else "smaller"
        lines.append(
            f"best: trial {best.number} with {result.metric} {best.value:.4g} ({better} is better)"
        )
        if best.checkpoint:
            lines.append(f"its checkpoint: {best.checkpoint}")
            weights = f"{load_call(name, folder)}.best.weights()"
            lines.append(f"in Python: import tuner; weights = {weights}")
    return lines


def print_outcome(
    result: StudyResult, console: Console, folder: Path, *, studies: str | None = None
) -> None:
    """Print the report with its first rows only, and the study's folder.

    Args:
        result: the study.
        console: the output.
        folder: the study's own folder.
        studies: the folder of all studies in the shown commands; None for the default.
    """
    print_report(result, console, top=_TOP, folder=studies)
    console.print(Text(f"files: {folder.absolute()}"), soft_wrap=True)


_WHAT = "the table"


def write_parquet(result: StudyResult, path: Path) -> None:
    """Write `StudyResult.ranking` to a Parquet file. An existing file is replaced.

    A parameter of mixed types is written as text, since a column has one type.

    Raises:
        InvalidInput: the file has another suffix than .parquet, or cannot be written.
    """
    check_file(path, (".parquet",), _WHAT)
    table = rows(result)
    for name in table.columns:
        column = table[name]
        mixed = not is_numeric_dtype(column) and column.dropna().map(type).nunique() > 1
        if mixed and not is_bool_dtype(column):
            table[name] = column.map(str, na_action="ignore")
    write_whole(path, lambda file: table.to_parquet(file, index=False), _WHAT)
