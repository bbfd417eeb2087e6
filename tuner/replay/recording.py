"""Recorded curves: the Parquet file's columns, reading it, and exporting a study as one.

One row per trial and report. Columns: trial, epoch, max_epochs, lr_progress, train_loss (may be
left out), val_accuracy (the job's metric, whatever its name), test_accuracy (the same on the test
split, may be left out), layers, rotation, config; others are not read.

A recording is one Parquet file with a row for each trial and report. Its schema's metadata may
hold JSON under the key "quarterturn": the metric's name and mode, and the study's rotation target
and warmup. Without it the metric is val_accuracy and the mode is max. A missing target or warmup
takes the default.
"""

from __future__ import annotations

import json
import math
import shlex
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tuner.errors import InvalidInput
from tuner.rotation import PruningConfig, RotationCurve, RotationTarget
from tuner.study.result import StudyResult, TrialResult

METADATA = b"quarterturn"
# Two more keys of the metadata. A study's attributes have the same keys.
_TARGET, _WARMUP = "rotation_target", "warmup_epochs"


@dataclass(frozen=True)
class Column:
    """One column of the format: its content, in words and as an Arrow type."""

    holds: str
    type: pa.DataType
    required: bool = True
    gaps: bool = False  # whether a value may be missing: unknown


COLUMNS = {
    "trial": Column("whole numbers", pa.int64()),
    "epoch": Column("numbers", pa.float64()),
    "max_epochs": Column("whole numbers", pa.int64()),
    "lr_progress": Column("numbers", pa.float64(), gaps=True),
    "train_loss": Column("numbers", pa.float64(), required=False, gaps=True),
    "val_accuracy": Column("numbers", pa.float64(), gaps=True),
    "test_accuracy": Column("numbers", pa.float64(), required=False, gaps=True),
    "layers": Column("lists of text", pa.list_(pa.string()), gaps=True),
    "rotation": Column("lists of numbers", pa.list_(pa.float64()), gaps=True),
    "config": Column("text", pa.string()),
}
_ACCEPTED: dict[str, Callable[[pa.DataType], bool]] = {
    "whole numbers": pa.types.is_integer,
    "numbers": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}


def read_table(path: Path) -> pa.Table:
    """Return the file's columns, each in one chunk and of the type in `COLUMNS`.

    Raises:
        InvalidInput: the file is not a Parquet file, or does not have the columns.
    """
    if not path.is_file():
        raise InvalidInput(
            f"a recording must be a file, {str(path)!r} is not a file; write one with "
            "`quarterturn export NAME`"
        )
    try:
        with pq.ParquetFile(path) as file:
            known = [name for name in file.schema_arrow.names if name in COLUMNS]
            table = file.read(columns=known).combine_chunks()
            table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise InvalidInput(
            f"a recording must be a Parquet file, {str(path)!r} cannot be read as one ({why}); "
            "write one with `quarterturn export NAME`"
        ) from error
    needed = [name for name, column in COLUMNS.items() if column.required]
    for name in needed:
        if name not in table.column_names:
            raise InvalidInput(
                f"a recording must have the columns {', '.join(needed)}, {path.name} has no "
                f"{name}; add it"
            )
    if not table.num_rows:
        raise InvalidInput(
            f"a recording must have a row for each report, {path.name} has none; record some trials"
        )
    columns = {name: _typed(path, name, table[name]) for name in table.column_names}
    return pa.table(columns, metadata=table.schema.metadata)


def _typed(path: Path, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    column = COLUMNS[name]
    if values.null_count and not column.gaps:
        row = values.is_null().index(True).as_py()
        raise InvalidInput(
            f"every row of a recording must have a value of {name}, row {row} of {path.name} has "
            "none; fill it in"
        )
    try:
        if _accepts(values.type, column.holds) or pa.types.is_null(values.type):
            return values.cast(column.type)
        cause = None
    except pa.ArrowException as error:
        cause = error
    raise InvalidInput(
        f"column {name} of a recording must hold {column.holds}, in {path.name} it is of type "
        f"{values.type}; store it as {column.type}"
    ) from cause


def _accepts(kind: pa.DataType, holds: str) -> bool:
    """Whether a column of this type can hold such values; Arrow would also cast text to numbers."""
    if pa.types.is_dictionary(kind):
        return _accepts(kind.value_type, holds)
    if not holds.startswith("lists of "):
        return _ACCEPTED[holds](kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    inner = holds.removeprefix("lists of ")
    return (is_list or pa.types.is_fixed_size_list(kind)) and (
        pa.types.is_null(kind.value_type) or _accepts(kind.value_type, inner)
    )


@dataclass(frozen=True)
class Metadata:
    """The metadata of a recording: the study's metric, its mode, and its settings for pruning."""

    metric: str = "val_accuracy"
    mode: Literal["min", "max"] = "max"
    rotation_target: RotationTarget = field(default_factory=RotationTarget)
    warmup_epochs: float = PruningConfig.warmup_epochs

    def to_json(self) -> str:
        return json.dumps(
            {
                "metric": self.metric,
                "mode": self.mode,
                _TARGET: self.rotation_target.to_dict(),
                _WARMUP: self.warmup_epochs,
            }
        )


def read_metadata(path: Path, metadata: dict[bytes, bytes]) -> Metadata:
    """Return the study's metadata from the metadata of the schema.

    Raises:
        InvalidInput: the metadata does not have this format.
    """
    if METADATA not in metadata:
        return Metadata()
    try:
        known = json.loads(metadata[METADATA])
        metric, mode = known["metric"], known["mode"]
        target = RotationTarget.from_dict(known.get(_TARGET, {}))
        warmup_epochs = float(known.get(_WARMUP, PruningConfig.warmup_epochs))
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise _wrong_metadata(path, metadata) from error
    if not isinstance(metric, str) or mode not in ("min", "max") or not warmup_epochs > 0:
        raise _wrong_metadata(path, metadata)
    return Metadata(metric, mode, target, warmup_epochs)


def _wrong_metadata(path: Path, metadata: dict[bytes, bytes]) -> InvalidInput:
    return InvalidInput(
        f"a recording's metadata must be JSON with a metric and a mode of min or max, and may "
        f"have a rotation_target and warmup_epochs > 0, "
        f"{path.name} has {metadata[METADATA][:40]!r}; leave it out for val_accuracy and max"
    )


Floats = npt.NDArray[np.float64]

# Rounding can move a number this far outside its range: bf16 resolves 2^-8 near 1.
_ROUNDING = 2**-7


@dataclass(frozen=True)
class RecordedTrial:
    """One whole trial of a recording.

    Attributes:
        number: the number of the trial in the study, from 0.
        curve: every report, oldest first; the metric is NaN within an epoch. A training loss that
            was recorded as NaN is infinite; NaN means that none was recorded.
        test_accuracy: the metric on the test split at the end of the run; NaN if unknown. No
            scheduler sees it.
        params: the config of the trial.
    """

    number: int
    curve: RotationCurve
    test_accuracy: float
    params: dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """The whole trials of a recorded study.

    Attributes:
        name: the name of the file, without its suffix.
        metric: the name of the optimised metric.
        mode: "min" or "max".
        max_epochs: epochs of a whole run, >= 1.
        trials: the trials with a report at `max_epochs`, by number.
        partial: the number of trials without that report.
        rotation_target: the rotation target of the recorded study.
        warmup_epochs: the first epoch at which the recorded study compares trials.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    trials: tuple[RecordedTrial, ...]
    partial: int
    rotation_target: RotationTarget = field(default_factory=RotationTarget)
    warmup_epochs: float = PruningConfig.warmup_epochs


def read_recording(path: str | Path) -> Recording:
    """Read a Parquet file of recorded curves.

    Raises:
        InvalidInput: the file does not exist or is not a recording, or it has no whole trial.
    """
    path = Path(path)
    table = read_table(path)
    known = read_metadata(path, table.schema.metadata or {})
    lengths = set(table["max_epochs"].to_pylist())
    if len(lengths) != 1:
        raise InvalidInput(
            f"all trials of a recording must have the same max_epochs, {path.name} has "
            f"{', '.join(map(str, sorted(lengths)))}; record each in its own file"
        )
    (max_epochs,) = lengths
    trials = _read_trials(path, table, max_epochs)
    whole = tuple(trial for trial in trials if trial.curve.epochs[-1] == max_epochs)
    if not whole:
        raise InvalidInput(
            f"a recording must have a trial that reaches its {max_epochs} epochs, {path.name} has "
            f"none among {len(trials)}; record some trials without pruning"
        )
    return Recording(
        name=path.stem,
        metric=known.metric,
        mode=known.mode,
        max_epochs=max_epochs,
        trials=whole,
        partial=len(trials) - len(whole),
        rotation_target=known.rotation_target,
        warmup_epochs=known.warmup_epochs,
    )


def _read_trials(path: Path, table: pa.Table, max_epochs: int) -> list[RecordedTrial]:
    numbers, epochs = table["trial"].to_numpy(), table["epoch"].to_numpy()
    layers, distances = _read_layers(path, table)
    lr_progress = _within(path, "lr_progress", _floats(table, "lr_progress"), 1.0)
    train_loss, metric, test = (
        _floats(table, name) for name in ("train_loss", "val_accuracy", "test_accuracy")
    )
    order = np.argsort(numbers, kind="stable")
    trials = []
    for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        number = int(numbers[rows[0]])
        if len({layers[row] for row in rows}) != 1:
            raise InvalidInput(
                f"every report of a trial must name the same layers in the same order, trial "
                f"{number} of {path.name} does not; record the same model each time"
            )
        try:
            curve = RotationCurve(
                layers=layers[rows[0]],
                max_epochs=max_epochs,
                epochs=tuple(epochs[rows].tolist()),
                lr_progress=tuple(lr_progress[rows].tolist()),
                distances=tuple(distances[row] for row in rows),
                train_loss=tuple(train_loss[rows].tolist()),
                metric=tuple(metric[rows].tolist()),
            )
        except InvalidInput as error:
            raise InvalidInput(f"trial {number} of {path.name}: {error}") from error
        params = _read_config(path, number, table["config"][int(rows[0])].as_py())
        trials.append(RecordedTrial(number, curve, float(test[rows[-1]]), params))
    return trials


def _read_layers(
    path: Path, table: pa.Table
) -> tuple[list[tuple[str, ...]], list[tuple[float, ...]]]:
    """Return each row's layers and their distances."""
    layers = [tuple(names or ()) for names in table["layers"].to_pylist()]
    if any(name is None for names in set(layers) for name in names):
        raise InvalidInput(f"every layer must have a name, one in {path.name} has none; name it")
    lists = table["rotation"].chunk(0)
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    values = _within(path, "rotation", flat, 2.0).tolist()
    sizes = pc.fill_null(lists.value_lengths(), 0).to_pylist()
    distances, begin = [], 0
    for row, (names, size) in enumerate(zip(layers, sizes, strict=True)):
        if size != len(names):
            raise InvalidInput(
                f"rotation must have one entry for each of {len(names)} layers, row {row} of "
                f"{path.name} has {size}; use NaN for unknown values"
            )
        distances.append(tuple(values[begin : begin + size]))
        begin += size
    return layers, distances


def _read_config(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise InvalidInput(
            f"config must be a JSON object, trial {number} of {path.name} has {text[:40]!r}; "
            "store {} if it is unknown"
        )
    return config


def _floats(table: pa.Table, name: str) -> Floats:
    """Return a column of numbers; a missing value is NaN."""
    if name not in table.column_names:
        return np.full(table.num_rows, math.nan)
    values = table[name]
    if name == "train_loss":  # a reported NaN means that the trial diverged
        values = pc.if_else(pc.fill_null(pc.is_nan(values), False), math.inf, values)
    floats: Floats = values.to_numpy()
    return floats


def _within(path: Path, name: str, values: Floats, top: float) -> Floats:
    """Return the values clipped to [0, top]; more than rounding error is refused."""
    outside = values[(values < -_ROUNDING) | (values > top + _ROUNDING)]
    if outside.size:
        raise InvalidInput(
            f"{name} must be within 0 and {top:g}, {path.name} has {outside[0]:g}; "
            "use NaN where it is unknown"
        )
    return np.clip(values, 0.0, top)


# Distances of float32 weights are not more precise.
_SMALL = {pa.float64(): pa.float32(), pa.list_(pa.float64()): pa.list_(pa.float32())}


def write_recording(result: StudyResult, path: str | Path) -> int:
    """Write the complete and pruned trials of a study that have reported; return how many.

    The file is written atomically. An existing file is replaced.

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
    known = Metadata(result.metric, result.mode, result.rotation_target, result.warmup_epochs)
    return pa.table(
        {
            # Unknown is null in the file; NaN there is a number that diverged.
            name: pa.array(values, types[name], from_pandas=True)
            for name, values in columns.items()
        }
    ).replace_schema_metadata({METADATA: known.to_json()})


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
