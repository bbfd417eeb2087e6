"""Commands that run a study and read it: run, resume, report, export."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.cluster import AT, resume_there, studies_at
from tuner.cli.options import BUDGET, FOLDER, INTERRUPTED, JOB, console, given_by, job_of
from tuner.cli.reporting import REPORT_FILES, report_files

if TYPE_CHECKING:
    from tuner.study.result import StudyResult


@click.command()
@JOB
@FOLDER
@click.option("--code", type=Path, hidden=True, help="Folder to keep with the study.")
def run(
    file: str | None, trainable: str | None, space: str | None, code: Path | None, **given: Any
) -> None:
    """Run a tuning job, then print its report. Running it again continues it.

    FILE is a Python file that defines a TuningJob; or name a trainable and a space.

    \b
    quarterturn run fashion.py
    quarterturn run fashion.py --trials 100 --gpus-per-trial 0.5
    quarterturn run --trainable digits-mlp --space sgd --name first --trials 20
    """
    job = job_of(file, trainable, space, given)
    from tuner.engine.run import run as run_job  # not before the names are known to be right

    _show(lambda: run_job(job, code=code), job.name, job.folder)


@click.command()
@click.argument("name")
@BUDGET
@FOLDER
@AT
def resume(name: str, folder: Path | None, address: str | None, **given: Any) -> None:
    """Continue a study after Ctrl-C or a crash, or with more trials.

    \b
    quarterturn resume fashion
    quarterturn resume fashion --trials 100
    quarterturn resume fashion --address http://head:8265
    """
    if address:
        resume_there(address, name, folder, given)
        return
    from tuner.engine.run import resume as resume_job
    from tuner.study.catalog import DEFAULT_FOLDER

    home = folder or Path(DEFAULT_FOLDER)
    _show(lambda: resume_job(name, folder=home, **given_by(given)), name, home)


@click.command()
@click.argument("name")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--top", type=click.IntRange(min=1), help="Only so many trials.")
@click.option("--sort", default="rank", show_default=True, help="Column or parameter to sort by.")
@REPORT_FILES
@FOLDER
@AT
def report(
    name: str,
    form: str | None,
    html: str | None,
    plot: str | None,
    out: Path | None,
    parquet: Path | None,
    top: int | None,
    sort: str,
    folder: Path | None,
    address: str | None,
) -> None:
    """Print the ranked trials of a study, running or finished.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several.

    \b
    quarterturn report fashion --top 10
    quarterturn report fashion --json
    quarterturn report fashion --html
    quarterturn report fashion --plot rotation --out rotation.svg
    quarterturn report fashion --address http://head:8265
    """
    from tuner.report import print_report, rows, to_json
    from tuner.study.load import load_study

    files = report_files(html=html, plot=plot, out=out, parquet=parquet)

    with studies_at(address, name, folder) as home:
        result = load_study(name, folder=home)
    if files:
        for path in files.write(result, name, folder):
            click.echo(f"wrote {path}")
    elif form == "json":
        click.echo(to_json(result, sort, top))
    elif form == "csv":
        click.echo(rows(result, sort, top).to_csv(index=False), nl=False)
    else:
        print_report(result, console(), sort, top)


@click.command()
@click.argument("name")
@click.option("--output", type=Path, help="File to write.  [default: NAME.parquet]")
@FOLDER
@AT
def export(name: str, output: Path | None, folder: Path | None, address: str | None) -> None:
    """Write the curves of a study's complete and pruned trials to a Parquet file.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. A file
    that is there already is replaced.

    \b
    quarterturn export fashion
    quarterturn export fashion --output curves/fashion.parquet
    """
    from tuner.replay.export import export as write
    from tuner.study.load import load_study

    with studies_at(address, name, folder) as home:
        result = load_study(name, folder=home)
    stem = result.name if "://" in name else Path(name).name
    click.echo(write(result, output or Path(f"{stem}.parquet")))


@click.command(hidden=True)
@click.argument("name")
@FOLDER
def send(name: str, folder: Path | None) -> None:
    """Print a study as text, for a reader on another machine."""
    from tuner.study.catalog import DEFAULT_FOLDER, find_study
    from tuner.study.transfer import pack

    click.echo(pack(find_study(name, folder or DEFAULT_FOLDER)))


def _show(verb: Callable[[], StudyResult], name: str, folder: Path) -> None:
    """Run or resume, and print what came of it and what to type next."""
    from tuner.report import print_outcome

    again = f"quarterturn resume {name}" + (
        f" --folder {folder}" if str(folder) != "studies" else ""
    )
    try:
        result = verb()
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; to go on: {again}", err=True)
        sys.exit(INTERRUPTED)
    print_outcome(result, console(), folder.expanduser() / name)
    if not result.finished:
        click.echo(f"interrupted; nothing is lost. To go on: {again}", err=True)
        sys.exit(INTERRUPTED)
    if all(trial.state == "failed" for trial in result.trials):
        sys.exit(1)


COMMANDS = (run, resume, report, export, send)
