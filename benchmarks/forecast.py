"""Measure the error of the forecast of the final rotation, on recorded runs.

Each run is cut after 10, 20, 30 and 50 % of its epochs. Its layers are forecast along the
learning-rate clock and along the epochs. The forecast is compared with the end of the run: mean
absolute error, the share of layers inside the 90 % interval, and the interval's mean width. The
table has each file, its optimizers and schedules, and all files together.

    python benchmarks/forecast.py benchmarks/curves/*.parquet
    python benchmarks/forecast.py benchmarks/curves/*.parquet --json
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tuner.replay.recording import RecordedTrial, read_recording
from tuner.rotation import RotationCurve, forecast

FRACTIONS = (0.1, 0.2, 0.3, 0.5)
CLOCKS = ("lr", "epochs")
# Fractions of epochs are sums of fractions, so they have rounding errors.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Outcome:
    """One layer's forecast after a fraction of a run, compared with the end of the run.

    `error` is signed, forecast minus truth; it and the width are NaN for a layer not forecast.
    """

    error: float
    width: float
    inside: bool


@dataclass(frozen=True)
class Row:
    """A row of the table: the errors of one group of layers after a fraction of the run."""

    file: str
    clock: str
    group: str
    fraction: float
    runs: int
    layers: int
    not_forecast: int
    mean_error: float
    mean_absolute_error: float
    coverage: float
    width: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="recorded curves (Parquet)")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    arguments = parser.parse_args()
    rows = measure(arguments.files)
    if arguments.json:
        print(json.dumps([_without_nan(asdict(row)) for row in rows]))
    else:
        print("\n".join(table(rows)))


def measure(files: Sequence[str | Path]) -> list[Row]:
    """Return all rows of the table: each file, and all files together if there are several."""
    found: dict[tuple[str, str, str, float], list[list[Outcome]]] = defaultdict(list)
    for file in files:
        recording = read_recording(file)
        names = [recording.name] + (["all files"] if len(files) > 1 else [])
        for trial in recording.trials:
            for clock in CLOCKS:
                for fraction in FRACTIONS:
                    outcomes = list(outcomes_of(trial.curve, fraction, clock))
                    for name in names:
                        for group in groups_of(trial):
                            found[name, clock, group, fraction].append(outcomes)
    order = [*dict.fromkeys(Path(file).stem for file in files), "all files"]
    keys = sorted(found, key=lambda key: (order.index(key[0]), CLOCKS.index(key[1]), key))
    return [summary(*key, runs=found[key]) for key in keys]


def groups_of(trial: RecordedTrial) -> Iterator[str]:
    """Yield the groups to which a trial belongs. A config may use short or long keys."""
    yield "all"
    for title, keys in (("optimizer", ("optimizer", "opt")), ("schedule", ("schedule", "sched"))):
        for key in keys:
            if key in trial.params:
                yield f"{title} {trial.params[key]}"
                break


def outcomes_of(curve: RotationCurve, fraction: float, clock: str) -> Iterator[Outcome]:
    """Yield the outcome of each layer's forecast; nothing if there was no report by then."""
    reports = sum(epoch <= fraction * curve.max_epochs * (1 + _ROUNDING) for epoch in curve.epochs)
    result = forecast(first_reports(curve, reports, known_schedule=clock == "lr"))
    if result is None:
        return
    ends = zip(curve.distances[-1], result.low, result.mid, result.high, strict=True)
    for truth, low, mid, high in ends:
        if not math.isnan(truth):
            yield Outcome(mid - truth, high - low, low <= truth <= high)


def first_reports(curve: RotationCurve, reports: int, *, known_schedule: bool) -> RotationCurve:
    """Return the curve of its first `reports` reports."""
    lr_progress = curve.lr_progress[:reports] if known_schedule else (math.nan,) * reports
    return replace(
        curve,
        epochs=curve.epochs[:reports],
        lr_progress=lr_progress,
        distances=curve.distances[:reports],
        train_loss=curve.train_loss[:reports],
        metric=curve.metric[:reports],
    )


def summary(file: str, clock: str, group: str, fraction: float, runs: list[list[Outcome]]) -> Row:
    """Return the row of one group; NaN if no layer was forecast."""
    every = [outcome for outcomes in runs for outcome in outcomes]
    known = [outcome for outcome in every if not math.isnan(outcome.error)]
    return Row(
        file=file,
        clock=clock,
        group=group,
        fraction=fraction,
        runs=len(runs),
        layers=len(known),
        not_forecast=len(every) - len(known),
        mean_error=_mean([outcome.error for outcome in known]),
        mean_absolute_error=_mean([abs(outcome.error) for outcome in known]),
        coverage=_mean([outcome.inside for outcome in known]),
        width=_mean([outcome.width for outcome in known]),
    )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a Markdown table for each file and clock: error / coverage / width by fraction."""
    by_group: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_group[row.file, row.clock][row.group].append(row)
    for (file, clock), groups in by_group.items():
        yield f"\n{file}, {'learning-rate' if clock == 'lr' else 'epochs'} clock\n"
        yield "| | runs | layers |" + "".join(f" {fraction:.0%} |" for fraction in FRACTIONS)
        yield "|---|---|---|" + "---|" * len(FRACTIONS)
        for group, found in groups.items():
            at = {row.fraction: row for row in found}
            layers = max(row.layers for row in found)
            cells = "".join(f" {_cell(at[fraction])} |" for fraction in FRACTIONS)
            yield f"| {group} | {found[0].runs} | {layers} |{cells}"


def _cell(row: Row) -> str:
    if not row.layers:
        return "-"
    return f"{row.mean_absolute_error:.3f} / {row.coverage:.2f} / {row.width:.3f}"


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Return the value, or None for NaN, which JSON does not have."""
    return {name: None if value != value else value for name, value in row.items()}


def _mean(values: Sequence[Any]) -> float:
    return sum(values) / len(values) if values else math.nan


if __name__ == "__main__":
    main()
