"""The files that a report can be written to: a page, a picture, the ranked table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import options

if TYPE_CHECKING:
    from tuner.study.result import StudyResult

_BY_NAME = ""  # --html without a file
_KINDS = ("rotation", "metric", "cost", "importance", "slices", "layers")

REPORT_FILES = options(
    click.option(
        "--html",
        is_flag=False,
        flag_value=_BY_NAME,
        metavar="[FILE]",
        help="Write a page to read in a browser, offline.  [default: NAME.html]",
    ),
    click.option("--plot", type=click.Choice(_KINDS), help="Write one chart to --out."),
    click.option("--out", type=Path, metavar="FILE", help="A .png or .svg file for --plot."),
    click.option("--parquet", type=Path, metavar="FILE", help="Write the ranked table to a file."),
)


@dataclass(frozen=True)
class ReportFiles:
    """Which files are asked for; `html` is empty for one that is named after the study."""

    html: str | None
    plot: str | None
    out: Path | None
    parquet: Path | None

    def __bool__(self) -> bool:
        return self.html is not None or self.plot is not None or self.parquet is not None

    def write(self, result: StudyResult, name: str, folder: Path | None) -> list[Path]:
        """Write them, and return where they are; the database of a study is not told."""
        written = []
        if self.html is not None:
            from tuner.report.html import write_html

            in_database = "://" in name
            stem = result.name if in_database else Path(name).name
            path = Path(self.html) if self.html else Path(f"{stem.replace('/', '-')}.html")
            write_html(
                result,
                path,
                name=f"DATABASE#{result.name}" if in_database else name,
                folder=str(folder) if folder else None,
            )
            written.append(path)
        if self.plot is not None and self.out is not None:
            from tuner.report.charts.pictures import write_plot

            write_plot(result, self.plot, self.out)
            written.append(self.out)
        if self.parquet is not None:
            from tuner.report.ranked import write_parquet

            write_parquet(result, self.parquet)
            written.append(self.parquet)
        return written


def report_files(
    *, html: str | None, plot: str | None, out: Path | None, parquet: Path | None
) -> ReportFiles:
    """Return the files that a command line asks for.

    Raises:
        UsageError: a plot without its file, or the other way round.
    """
    if (plot is None) != (out is None):
        raise click.UsageError("Give --plot KIND and --out FILE together")
    return ReportFiles(html, plot, out, parquet)
