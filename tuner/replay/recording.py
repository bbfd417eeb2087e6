"""Recorded curves: every report of every whole trial of a study, read from one Parquet file.

One row per trial and report. Columns: trial, epoch, max_epochs, lr_progress, train_loss (may be
left out), val_accuracy (the job's metric, whatever its name), test_accuracy (the same on the test
split, may be left out), layers, rotation, config; others are not read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from tuner.errors import InvalidInput
from tuner.replay.columns import read_metadata, read_table
from tuner.rotation import RotationCurve

Floats = npt.NDArray[np.float64]

# How far outside its range a number may fall by rounding: bf16 resolves 2^-8 near 1.
_ROUNDING = 2**-7


@dataclass(frozen=True)
class RecordedTrial:
    """One whole trial of a recording.

    Attributes:
        number: from 0, as in the study.
        curve: every report, oldest first; the metric is NaN within an epoch. A training loss that
            was recorded as not a number is infinite, and NaN where none was recorded.
        test_accuracy: the metric on the test split at the end of the run, NaN if unknown; never
            shown to a scheduler.
        params: its config.
    """

    number: int
    curve: RotationCurve
    test_accuracy: float
    params: dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """The whole trials of a recorded study.

    Attributes:
        name: of the file, without its suffix.
        metric: what was optimised; mode: "min" or "max"; max_epochs: of a whole run, >= 1.
        trials: by number, only those with a report at `max_epochs`.
        partial: how many trials were left out because they lack it.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    trials: tuple[RecordedTrial, ...]
    partial: int


def read_recording(path: str | Path) -> Recording:
    """Read a Parquet file of recorded curves.

    Raises:
        InvalidInput: there is no such file, it is not such a recording, or no trial in it is whole.
    """
    path = Path(path)
    table = read_table(path)
    metric, mode = read_metadata(path, table.schema.metadata or {})
    lengths = set(table["max_epochs"].to_pylist())
    if len(lengths) != 1:
        raise InvalidInput(
            f"all trials of a recording must have the same max_epochs, {path.name} has "
            f"{', '.join(map(str, sorted(lengths)))}; record each in a file of its own"
        )
    (max_epochs,) = lengths
    trials = _read_trials(path, table, max_epochs)
    whole = tuple(trial for trial in trials if trial.curve.epochs[-1] == max_epochs)
    if not whole:
        raise InvalidInput(
            f"a recording must have a trial that reaches its {max_epochs} epochs, {path.name} has "
            f"none among {len(trials)}; record some trials without pruning"
        )
    return Recording(path.stem, metric, mode, max_epochs, whole, len(trials) - len(whole))


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
                f"{path.name} has {size}; use NaN for what is unknown"
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
    """Return a column of numbers, NaN where it has none."""
    if name not in table.column_names:
        return np.full(table.num_rows, math.nan)
    values = table[name]
    if name == "train_loss":  # one that was reported, but is not a number, has diverged
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
