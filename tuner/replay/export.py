"""Writing a study as a recording."""

from __future__ import annotations

import json
import math
import shlex
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tuner.errors import InvalidInput
from tuner.replay.columns import COLUMNS, METADATA
from tuner.study.result import StudyResult, TrialResult

# float32 weights do not know more.
_SMALL = {pa.float64(): pa.float32(), pa.list_(pa.float64()): pa.list_(pa.float32())}


def write_recording(result: StudyResult, path: str | Path) -> int:
    """Write the complete and pruned trials of a study that have reported; return how many.

    The file appears whole or not at all; one that is there is replaced.

    Raises:
        InvalidInput: no such trial has reported anything, or the file cannot be written.
    """
    path = Path(path)
    trials = _recorded(result)
    if not trials:
        raise InvalidInput(
            f"a study must have a complete or pruned trial with a report to be written as a "
            f"recording, {result.name!r} has none among {len(result.trials)}; run it first"
        )
    if not path.parent.is_dir():
        raise InvalidInput(
            f"the folder of the output file must exist, got {str(path)!r}; make it or choose "
            "another file"
        )
    table = _table(result, trials)
    unfinished = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(path)
    except OSError as error:
        raise InvalidInput(
            f"the output file must be writable, got {str(path)!r} "
            f"({error.strerror or error}); choose another file"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return len(trials)


def export(result: StudyResult, path: str | Path) -> str:
    """Write a study as a recording; return what was written and what to type next, as lines.

    Raises:
        InvalidInput: as `write_recording`.
    """
    number = write_recording(result, path)
    trials = _recorded(result)
    complete = sum(trial.state == "complete" for trial in trials)
    reports = sum(len(trial.curve) for trial in trials)
    size_kb = math.ceil(Path(path).stat().st_size / 1000)
    return (
        f"wrote {path}: {number} trial{'s' * (number != 1)} ({complete} complete), "
        f"{reports} report{'s' * (reports != 1)}, {size_kb} kB\n"
        f"quarterturn replay {shlex.quote(str(path))}"
    )


def _recorded(result: StudyResult) -> list[TrialResult]:
    return [
        trial
        for trial in result.trials
        if trial.state in ("complete", "pruned") and len(trial.curve)
    ]


def _table(result: StudyResult, trials: list[TrialResult]) -> pa.Table:
    test = f"test_{result.metric.removeprefix('val_')}"
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for trial in sorted(trials, key=lambda trial: trial.number):
        curve, reports = trial.curve, len(trial.curve)
        columns["trial"] += [trial.number] * reports
        columns["epoch"] += curve.epochs
        columns["max_epochs"] += [result.max_epochs] * reports
        columns["lr_progress"] += curve.lr_progress
        columns["train_loss"] += curve.train_loss
        columns["val_accuracy"] += curve.metric
        columns["test_accuracy"] += [math.nan] * (reports - 1) + [trial.test.get(test, math.nan)]
        columns["layers"] += [curve.layers] * reports
        columns["rotation"] += [[_null(d) for d in row] for row in curve.distances]
        columns["config"] += [json.dumps(trial.setting, default=str)] * reports
    whole = all(epoch.is_integer() for epoch in columns["epoch"])
    if whole:
        columns["epoch"] = [int(epoch) for epoch in columns["epoch"]]
    types = {name: _SMALL.get(column.type, column.type) for name, column in COLUMNS.items()}
    types["epoch"] = pa.int64() if whole else pa.float64()
    metadata = {METADATA: json.dumps({"metric": result.metric, "mode": result.mode})}
    return pa.table(
        {
            # Unknown is null in the file; NaN there is a number that diverged.
            name: pa.array(values, types[name], from_pandas=True)
            for name, values in columns.items()
        }
    ).replace_schema_metadata(metadata)


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
