"""Everything about one trial: its reason, parameters, layers, reports and files."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.errors import InvalidInput
from tuner.report import formatting
from tuner.rotation import Forecast, forecast
from tuner.study.result import StudyResult, TrialResult

# Reports of a trial that the terminal shows, evenly spread.
_REPORTS = 15


def find_trial(result: StudyResult, number: int) -> TrialResult:
    """Return a trial of a study.

    Raises:
        InvalidInput: the study has no trial of this number.
    """
    known = {trial.number: trial for trial in result.trials}
    if number not in known:
        has = f"has {min(known)} to {max(known)}" if known else "has none yet"
        raise InvalidInput(
            f"--trial must be the number of a trial of {result.name!r}, got {number}; it {has}"
        )
    return known[number]


def trial_json(result: StudyResult, number: int) -> str:
    """Return one trial with all its reports as one JSON object. Unknown values are null.

    Raises:
        InvalidInput: the study has no trial of this number.
    """
    trial = find_trial(result, number)
    ahead = _forecast(trial, result)
    curve = trial.curve
    return json.dumps(
        {
            "study": result.name,
            "trial": trial.number,
            "rank": result.ranked.index(trial) + 1,
            "state": trial.state,
            "status": trial.status or trial.state,
            result.metric: _known(trial.value),
            "reason": trial.reason,
            "would_have_been_pruned": trial.audit,
            "params": {name: _plain(value) for name, value in trial.setting.items()},
            "test": {name: _known(value) for name, value in trial.test.items()},
            "epochs": trial.epochs,
            "max_epochs": result.max_epochs,
            "seconds": round(trial.seconds, 3),
            "checkpoint": trial.checkpoint,
            "traceback": trial.error,
            "retry_of": trial.retry_of,
            "rotation": {layer: _known(value) for layer, value in trial.rotation.items()},
            "forecast": None
            if ahead is None
            else {
                layer: {
                    "low": _known(ahead.low[i]),
                    "mid": _known(ahead.mid[i]),
                    "high": _known(ahead.high[i]),
                }
                for i, layer in enumerate(ahead.layers)
            },
            "reports": [
                {
                    "epoch": epoch,
                    result.metric: _known(curve.metric[i]),
                    "train_loss": _known(curve.train_loss[i]),
                    "rotation": dict(
                        zip(curve.layers, map(_known, curve.distances[i]), strict=True)
                    ),
                }
                for i, epoch in enumerate(curve.epochs)
            ],
        },
        indent=1,
    )


def print_trial(
    result: StudyResult,
    number: int,
    console: Console,
    *,
    name: str | None = None,
    folder: str | None = None,
) -> None:
    """Print everything about one trial.

    Args:
        result: the study.
        number: the number of the trial.
        console: the output.
        name: the name of the study in the shown call; its own name by default.
        folder: the folder of all studies in the shown call; None for the default.

    Raises:
        InvalidInput: the study has no trial of this number.
    """
    trial = find_trial(result, number)
    spent = f"{formatting.epochs_of(trial.epochs, result.max_epochs)} epochs, {trial.seconds:.1f} s"
    rank = f"rank {result.ranked.index(trial) + 1} of {len(result.ranked)}"
    metric = f"{result.metric} {formatting.number(trial.value)}"
    head = (
        f"{result.name}, trial {number}: {trial.status or trial.state}, {metric}, {rank}, {spent}"
    )
    console.print(Text(formatting.one_line(head), style="bold"), soft_wrap=not console.is_terminal)
    if trial.reason:
        console.print(Text(f"reason: {formatting.one_line(trial.reason)}"), soft_wrap=True)
    if trial.audit:
        why = formatting.one_line(trial.audit)
        console.print(Text(f"control trial; it would be pruned: {why}"), soft_wrap=True)
    if trial.error:
        console.print(Text(f"traceback: {trial.error}"), soft_wrap=True)
    if trial.retry_of is not None:
        console.print(Text(f"repeats trial {trial.retry_of}, which failed"), soft_wrap=True)
    for title, text in (("start", trial.start), ("tests the advice", trial.advice)):
        if text:
            console.print(Text(f"{title}: {formatting.one_line(text)}"), soft_wrap=True)
    _print_pairs(console, "parameters", trial.setting)
    _print_pairs(console, "on the test data", trial.test)
    _print_layers(console, trial, result)
    _print_reports(console, trial, result)
    if trial.checkpoint:
        console.print(Text(f"\ncheckpoint: {trial.checkpoint}"), soft_wrap=True)
        loaded = formatting.load_call(result.name if name is None else name, folder)
        console.print(Text(f"in Python: {loaded}.trials[{number}].weights()"), soft_wrap=True)


def _print_pairs(console: Console, title: str, values: dict[str, Any]) -> None:
    if not values:
        return
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        shown = formatting.one_line(formatting.number(value))
        table.add_row("", Text(formatting.one_line(name)), Text(shown))
    console.print(Text(f"\n{title}"))
    console.print(table)


def _print_layers(console: Console, trial: TrialResult, result: StudyResult) -> None:
    if not trial.rotation:
        return
    ahead = _forecast(trial, result)
    floors = result.rotation_target.floors(trial.curve.layers)
    table = _table("layer", "rotation", "", "target", *(["forecast at the end"] if ahead else []))
    for index, layer in enumerate(trial.curve.layers):
        row = [
            Text(formatting.one_line(layer)),
            Text(formatting.distance(trial.rotation.get(layer, math.nan))),
            Text(formatting.rotation_curve(trial, layer)),
            Text("-" if math.isnan(floors[index]) else f"{floors[index]:.2f}"),
        ]
        if ahead:
            low, mid, high = ahead.low[index], ahead.mid[index], ahead.high[index]
            known = not math.isnan(mid)
            row.append(Text(f"{mid:.2f} ({low:.2f} to {high:.2f})" if known else "-"))
        table.add_row(*row)
    console.print()
    console.print(table)


def _print_reports(console: Console, trial: TrialResult, result: StudyResult) -> None:
    curve = trial.curve
    if not len(curve):
        return
    table = _table("epoch", result.metric, "train loss", "rotation: smallest", "mean")
    shown = sorted({*np.linspace(0, len(curve) - 1, _REPORTS).round().astype(int).tolist()})
    for index in shown:
        known = [value for value in curve.distances[index] if not math.isnan(value)]
        table.add_row(
            f"{round(curve.epochs[index], 2):g}",
            formatting.number(curve.metric[index]),
            formatting.number(curve.train_loss[index]),
            formatting.distance(min(known, default=math.nan)),
            formatting.distance(math.fsum(known) / len(known) if known else math.nan),
        )
    console.print()
    console.print(table)
    if len(shown) < len(curve):
        console.print(Text(f"{len(shown)} of {len(curve)} reports; --json has all of them"))


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(Text(heading), no_wrap=True)
    return table


def _forecast(trial: TrialResult, result: StudyResult) -> Forecast | None:
    """Return the forecast of a trial that has not trained to its end."""
    unfinished = trial.epochs < result.max_epochs and len(trial.curve) and trial.curve.layers
    return forecast(trial.curve) if unfinished else None


def _known(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
