"""Commands for studies: run, resume, report, export, advise, watch, find-rate, serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.cluster import AT, resume_there, studies_at
from tuner.cli.options import (
    BUDGET,
    DATA,
    FOLDER,
    INTERRUPTED,
    JOB,
    RESOURCES,
    RETRY_FAILED,
    console,
    given_by,
    job_of,
    options,
    pairs,
    storage_url,
)
from tuner.errors import InvalidInput

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
        help="Write an offline page for the browser.  [default: NAME.html]",
    ),
    click.option("--plot", type=click.Choice(_KINDS), help="Write one chart to --out."),
    click.option("--out", type=Path, metavar="FILE", help="The .png or .svg file of --plot."),
    click.option("--parquet", type=Path, metavar="FILE", help="Write the table as Parquet."),
)


@dataclass(frozen=True)
class ReportFiles:
    """The files that a report writes; each is optional.

    Attributes:
        html: the path of the page; empty means that the page is named after the study.
        plot: the kind of the chart.
        out: the path of the chart.
        parquet: the path of the ranked table.
    """

    html: str | None
    plot: str | None
    out: Path | None
    parquet: Path | None

    def __bool__(self) -> bool:
        return self.html is not None or self.plot is not None or self.parquet is not None

    def write(self, result: StudyResult, name: str, folder: Path | None) -> list[Path]:
        """Write the files and return their paths. The page does not show a database's URL.

        Args:
            result: the study.
            name: the name or URL of the study on the command line.
            folder: the folder of studies on the command line.
        """
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
            from tuner.report.charts.export import write_plot

            write_plot(result, self.plot, self.out)
            written.append(self.out)
        if self.parquet is not None:
            from tuner.report.summary import write_parquet

            write_parquet(result, self.parquet)
            written.append(self.parquet)
        return written


def report_files(
    *, html: str | None, plot: str | None, out: Path | None, parquet: Path | None
) -> ReportFiles:
    """Return the files that a command line asks for.

    Raises:
        UsageError: only one of --plot and --out is given.
    """
    if (plot is None) != (out is None):
        raise click.UsageError("Give --plot KIND and --out FILE together")
    return ReportFiles(html, plot, out, parquet)


@click.command()
@JOB
@RETRY_FAILED
@FOLDER
@click.option("--code", type=Path, hidden=True, help="Folder of modules to keep with the study.")
def run(
    file: str | None,
    trainable: str | None,
    space: str | None,
    retry_failed: bool,
    code: Path | None,
    **given: Any,
) -> None:
    """Run a tuning job, then print its report. Run the command again to continue the study.

    FILE is a Python file that defines a TuningJob. Without FILE, give a trainable and a space.

    \b
    quarterturn run fashion.py
    quarterturn run fashion.py --trials 100 --gpus-per-trial 0.5
    quarterturn run --trainable digits-mlp --space sgd --name first --trials 20
    """
    job = job_of(file, trainable, space, given)
    from tuner.api import run as run_job  # after the names are checked: the import is slow

    _show(lambda: run_job(job, code=code, retry_failed=retry_failed), job.name, job.folder)


@click.command()
@click.argument("name")
@BUDGET
@RETRY_FAILED
@FOLDER
@AT
def resume(
    name: str, retry_failed: bool, folder: Path | None, address: str | None, **given: Any
) -> None:
    """Continue a study after Ctrl-C or a crash, or with more trials.

    \b
    quarterturn resume fashion
    quarterturn resume fashion --trials 100
    quarterturn resume fashion --retry-failed
    quarterturn resume fashion --address http://head:8265
    """
    if address:
        resume_there(address, name, folder, given, ["--retry-failed"] if retry_failed else [])
        return
    from tuner.api import resume as resume_job
    from tuner.study.folder import DEFAULT_FOLDER

    home = folder or Path(DEFAULT_FOLDER)
    changes = {"retry_failed": retry_failed, **given_by(given)}
    _show(lambda: resume_job(name, folder=home, **changes), name, home)


@click.command()
@click.argument("name")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--trial", type=click.IntRange(min=0), metavar="N", help="Print all about trial N.")
@click.option("--top", type=click.IntRange(min=1), help="Number of trials to print.")
@click.option("--sort", default="rank", show_default=True, help="Column or parameter to sort by.")
@REPORT_FILES
@FOLDER
@AT
def report(
    name: str,
    form: str | None,
    trial: int | None,
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
    quarterturn report fashion --trial 7
    quarterturn report fashion --json
    quarterturn report fashion --html
    quarterturn report fashion --plot rotation --out rotation.svg
    quarterturn report fashion --address http://head:8265
    """
    from tuner.report import print_report, rows, to_json
    from tuner.study.load import load_study

    files = report_files(html=html, plot=plot, out=out, parquet=parquet)
    if files and (form or top or sort != "rank"):
        raise click.UsageError(
            "Give --csv, --json, --top and --sort for the printed report, without files to write"
        )

    if trial is not None and (files or form == "csv" or top or sort != "rank"):
        raise click.UsageError("Give --trial alone or with --json")
    with studies_at(address, name, folder) as home:
        result = load_study(name, folder=home)
    shown = str(folder) if folder else None
    if trial is not None:
        from tuner.report.one_trial import print_trial, trial_json

        if form == "json":
            click.echo(trial_json(result, trial))
        else:
            print_trial(result, trial, console(), name=name, folder=shown)
    elif files:
        for path in files.write(result, name, folder):
            click.echo(f"wrote {path}")
    elif form == "json":
        click.echo(to_json(result, sort, top))
    elif form == "csv":
        click.echo(rows(result, sort, top).to_csv(index=False), nl=False)
    else:
        print_report(result, console(), sort, top, name=name, folder=shown)


@click.command()
@click.argument("name")
@click.option("--output", type=Path, help="The file.  [default: NAME.parquet]")
@FOLDER
@AT
def export(name: str, output: Path | None, folder: Path | None, address: str | None) -> None:
    """Write the curves of a study's complete and pruned trials to a Parquet file.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. An
    existing file is replaced.

    \b
    quarterturn export fashion
    quarterturn export fashion --output curves/fashion.parquet
    """
    from tuner.replay.recording import export as write
    from tuner.study.load import load_study

    with studies_at(address, name, folder) as home:
        result = load_study(name, folder=home)
    stem = result.name if "://" in name else Path(name).name
    click.echo(write(result, output or Path(f"{stem}.parquet")))


@click.command(hidden=True)
@click.argument("name")
@FOLDER
def send(name: str, folder: Path | None) -> None:
    """Print a study as text, for a process on another machine."""
    from tuner.study.folder import DEFAULT_FOLDER, find_study
    from tuner.study.load import pack

    click.echo(pack(find_study(name, folder or DEFAULT_FOLDER)))


def _show(verb: Callable[[], StudyResult], name: str, folder: Path) -> None:
    """Run or resume a study, then print its report and the command that continues it."""
    from tuner.report import print_outcome
    from tuner.report.formatting import study_arguments
    from tuner.study.folder import DEFAULT_FOLDER

    studies = str(folder) if str(folder) != DEFAULT_FOLDER else None
    again = f"quarterturn resume {study_arguments(name, studies)}"
    try:
        result = verb()
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; to go on: {again}", err=True)
        sys.exit(INTERRUPTED)
    print_outcome(result, console(), folder.expanduser() / name, studies=studies)
    if not result.finished:
        click.echo(f"interrupted; nothing is lost. To go on: {again}", err=True)
        sys.exit(INTERRUPTED)
    if not any(trial.state == "complete" for trial in result.trials):
        click.echo(
            f"no trial is complete, so {result.name} has no best one; mend what failed, or widen "
            f"the space, then: {again} --trials {2 * result.num_trials}",
            err=True,
        )
        sys.exit(1)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option(
    "--enqueue",
    type=click.IntRange(min=1),
    metavar="K",
    help="Enqueue up to K of the configurations; `resume` runs them.",
)
@FOLDER
@AT
def advise(
    name: str, as_json: bool, enqueue: int | None, folder: Path | None, address: str | None
) -> None:
    """Print advice for the next trials, with the evidence from the study's own trials.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. There is
    no advice if the trials show no effect beyond chance.

    \b
    quarterturn advise fashion
    quarterturn advise fashion --enqueue 3
    quarterturn resume fashion --trials 53
    """
    if enqueue and (address or "://" in name):
        raise InvalidInput(
            f"--enqueue must be given where the study's folder is, got {address or 'a database'}; "
            "give its name, and --folder if it is not in studies"
        )
    from tuner.report.advice import advice
    from tuner.report.advice.render import advice_json, print_advice
    from tuner.study.load import load_study

    with studies_at(address, name, folder) as home:
        result = load_study(name, folder=home)
    found = advice(result)
    if as_json:
        click.echo(advice_json(found))
    else:
        print_advice(found, console())
    if not enqueue:
        return
    from tuner.study.enqueue import QueuedTrial
    from tuner.study.enqueue import enqueue as put
    from tuner.study.folder import find_study

    wanted = [
        QueuedTrial(piece.title, piece.params, piece.config)
        for piece in found
        if piece.params is not None
    ][:enqueue]
    if not wanted:
        click.echo("enqueued nothing: no advice has a configuration that tests it", err=True)
        return
    done = put(find_study(name.rstrip("/"), home), wanted)
    if not done.numbers:  # a trial of the same configuration was enqueued since the study was read
        click.echo("enqueued nothing: the study has these configurations already", err=True)
        return
    numbers = ", ".join(map(str, done.numbers))
    where = f" --folder {folder}" if folder else ""
    click.echo(
        f"enqueued {len(done.numbers)} (trial {numbers}); to run: "
        f"quarterturn resume {name} --trials {done.trials}{where}",
        err=True,
    )


@click.command()
@click.argument("name")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between two updates.",
)
@FOLDER
def watch(name: str, interval: float, folder: Path | None) -> None:
    """Show a study on the terminal while another process runs it. Ctrl-C ends only the view.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. If
    the output is not a terminal, the command prints one snapshot.

    \b
    quarterturn watch fashion
    quarterturn watch fashion --interval 10
    """
    from tuner.report.terminal import watch as show
    from tuner.study.folder import DEFAULT_FOLDER

    show(name, folder or DEFAULT_FOLDER, console(), interval)


@click.command("find-rate")
@click.argument("file", required=False)
@click.option("--trainable", help="A name from `quarterturn trainables`, or module:Class.")
@click.option("--space", help="A name from `quarterturn spaces`, or module:function.")
@click.option(
    "--optimizer",
    help="sgd, adam, adamw, rmsprop, layca, layca-adam, ...  [default: the space's Layca]",
)
@click.option("--distance", default=0.95, show_default=True, help="Hidden layers' final distance.")
@click.option("--epochs", "max_epochs", type=int, help="Epochs of the run.")
@click.option("--seed", type=int, help="Seed of the initialisation and of the batches.")
@click.option(
    "--set",
    "config",
    multiple=True,
    metavar="KEY=VALUE",
    callback=pairs,
    help="Set a key of the run's config, e.g. batch_size=32; repeatable.",
)
@RESOURCES
@DATA
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", type=Path, help="Plot the curve to a .png or .svg file.")
def find_rate(
    file: str | None,
    trainable: str | None,
    space: str | None,
    optimizer: str | None,
    distance: float,
    config: dict[str, str] | None,
    as_json: bool,
    plot: Path | None,
    **given: Any,
) -> None:
    """Find the rate at which an optimizer turns the hidden layers by a given distance.

    Four short probes, together at most one epoch, forecast how far each rate turns the layers in a
    run of this model, optimizer, schedule and length. They also show whether the network learns at
    that rate, and which layers lag. The rate is Layca's, or the learning rate of another optimizer.

    \b
    quarterturn find-rate fashion.py
    quarterturn find-rate --trainable digits-mlp --space layca --epochs 20
    quarterturn find-rate fashion.py --optimizer adamw --set weight_decay=0.05
    quarterturn find-rate fashion.py --optimizer layca-adam --distance 0.7 --plot rates.svg
    """
    from tuner.files import check_picture
    from tuner.rate_finder.report import print_rates, rates_json, write_rates_plot

    if plot:
        check_picture(plot)
    job = job_of(file, trainable, space, given)
    from tuner.rate_finder.find_rate import find_rate as find  # slow, so after the checks

    keys = {key: _value(text) for key, text in (config or {}).items()}
    found = find(job, optimizer=optimizer, distance=distance, config=keys)
    if as_json:
        click.echo(rates_json(found))
    else:
        print_rates(found, console())
    if plot:
        write_rates_plot(found, plot)
        if not as_json:
            click.echo(f"wrote {plot}")


def _value(text: str) -> Any:
    """Return a value parsed as JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command()
@FOLDER
@click.option(
    "--storage",
    callback=storage_url,
    help="Show the studies of this database URL; @FILE reads the URL from a file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8270, show_default=True)
@click.option(
    "--token-file",
    type=Path,
    metavar="FILE",
    help="File with the token.  [default: QUARTERTURN_SERVE_TOKEN, ~/.quarterturn/serve_token]",
)
@click.option("--no-token", is_flag=True, help="Let everyone on this machine in without a token.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between two reads of the storage.",
)
def serve(
    folder: Path | None,
    storage: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    no_token: bool,
    interval: float,
) -> None:
    """Show all studies in a browser, live, until Ctrl-C. The server only reads.

    A visitor needs the token. The terminal shows how to sign in.

    \b
    quarterturn serve
    quarterturn serve --folder /mnt/quarterturn --port 8271
    quarterturn serve --storage @url.txt
    """
    if folder and storage:
        raise click.UsageError("Give --folder or --storage, not both")
    if no_token and token_file:
        raise click.UsageError("Give --token-file or --no-token, not both")
    try:
        from tuner.serve.server import serve as run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise InvalidInput(
            f"serve needs starlette and uvicorn, {error.name} is not installed; "
            "pip install 'quarterturn[serve]'"
        ) from error
    from tuner.study.folder import DEFAULT_FOLDER

    run(
        folder=folder or Path(DEFAULT_FOLDER),
        named=folder is not None,
        storage=storage,
        host=host,
        port=port,
        token_file=token_file,
        with_token=not no_token,
        interval_s=interval,
        say=click.echo,
        on_terminal=sys.stdout.isatty(),
    )


COMMANDS = (run, resume, report, export, send, find_rate, advise, watch, serve)
