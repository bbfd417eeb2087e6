"""The ranked table as a Parquet file."""

from __future__ import annotations

from pathlib import Path

from pandas.api.types import is_bool_dtype, is_numeric_dtype

from tuner.report.document import rows
from tuner.report.writing import check_file, write_whole
from tuner.study.result import StudyResult

_WHAT = "the table"


def write_parquet(result: StudyResult, path: Path) -> None:
    """Write `StudyResult.ranking` to a file; one that is there is replaced.

    A parameter of mixed kinds is written as text, since a column of a file has one kind.

    Raises:
        InvalidInput: it has another suffix than .parquet, or cannot be written.
    """
    check_file(path, (".parquet",), _WHAT)
    table = rows(result)
    for name in table.columns:
        column = table[name]
        mixed = not is_numeric_dtype(column) and column.dropna().map(type).nunique() > 1
        if mixed and not is_bool_dtype(column):
            table[name] = column.map(str, na_action="ignore")
    write_whole(path, lambda file: table.to_parquet(file, index=False), _WHAT)
