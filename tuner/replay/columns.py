"""The columns of a recording: what each holds, and reading them from a file, checked.

A recording is one Parquet file with a row for each trial and report. Its schema's metadata may
hold, under the key "quarterturn", the metric's name and mode as JSON; without it they are
val_accuracy and max.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tuner.errors import InvalidInput

METADATA = b"quarterturn"


@dataclass(frozen=True)
class Column:
    """What the format says of a column: what it holds, in words and as an Arrow type."""

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
    """Return the file's columns, each in one chunk and of the type that `COLUMNS` gives."""
    if not path.is_file():
        raise InvalidInput(
            f"a recording must be a file, {str(path)!r} is none; write one with "
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
    """Whether a column of this type can hold that: Arrow's cast would take text for numbers."""
    if pa.types.is_dictionary(kind):
        return _accepts(kind.value_type, holds)
    if not holds.startswith("lists of "):
        return _ACCEPTED[holds](kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    inner = holds.removeprefix("lists of ")
    return (is_list or pa.types.is_fixed_size_list(kind)) and (
        pa.types.is_null(kind.value_type) or _accepts(kind.value_type, inner)
    )


def read_metadata(path: Path, metadata: dict[bytes, bytes]) -> tuple[str, Literal["min", "max"]]:
    if METADATA not in metadata:
        return "val_accuracy", "max"
    try:
        known = json.loads(metadata[METADATA])
        metric, mode = known["metric"], known["mode"]
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong_metadata(path, metadata) from error
    if not isinstance(metric, str) or mode not in ("min", "max"):
        raise _wrong_metadata(path, metadata)
    return metric, mode


def _wrong_metadata(path: Path, metadata: dict[bytes, bytes]) -> InvalidInput:
    return InvalidInput(
        f"a recording's metadata must be JSON with a metric and a mode of min or max, "
        f"{path.name} has {metadata[METADATA][:40]!r}; leave it out for val_accuracy and max"
    )
