"""The command `quarterturn`: it parses, and hands over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.study.result import StudyResult

_INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def main() -> None:
    """Run the command line; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        sys.exit(cli(standalone_mode=False))
    except InvalidInput as error:
        _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "quarterturn"
        _refuse(f"{error.format_message().rstrip('.')}; see {command} --help")
    except (click.Abort, KeyboardInterrupt):
        click.echo("quarterturn: interrupted", err=True)
        sys.exit(_INTERRUPTED)


def _refuse(line: str) -> None:
    click.echo(f"quarterturn: {' '.join(line.split())}", err=True)
    sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quarterturn")
def cli() -> None:
    """Tune hyperparameters on Ray, watch how far each layer turns, and prune with a reason.

    \b
    quarterturn run --trainable digits-mlp --space sgd --name first
    quarterturn report first
    """


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_FOLDER = click.option("--folder", type=Path, help="Where studies are kept.  [default: studies]")
_BUDGET = _options(
    click.option("--trials", "num_trials", type=int, help="Trials in all."),
    click.option("--cpus-per-trial", type=float, help="CPUs that a trial reserves."),
    click.option("--gpus-per-trial", type=float, help="GPUs that it reserves; 0.5 shares one."),
    click.option("--concurrent", "max_concurrent", type=int, help="Trials at a time, at most."),
    click.option("--data", "data_dir", help="Folder with the training data."),
    _FOLDER,
)


@cli.command()
@click.argument("file", required=False)
@click.option("--trainable", help="A name from `quarterturn trainables`, or module:Class.")
@click.option("--space", help="A name from `quarterturn spaces`, or module:function.")
@click.option("--name", help="Of the study.")
@click.option("--metric", help="What to optimise.")
@click.option("--mode", type=click.Choice(["min", "max"]), help="Make it small, or large.")
@click.option("--epochs", "max_epochs", type=int, help="Epochs of a trial that is not pruned.")
@click.option("--seed", type=int, help="Of suggestions and training.")
@click.option("--storage", help="Database URL for the study, instead of a file.")
@click.option("--pruner", help="rotation, none, median, percentile, asha, hyperband, wilcoxon.")
@click.option("--sampler", help="tpe, random, gp, nsgaii, qmc.")
@_BUDGET
def run(file: str | None, trainable: str | None, space: str | None, **given: Any) -> None:
    """Run a tuning job, then print its report. Running it again continues it.

    FILE is a Python file that defines a TuningJob; or name a trainable and a space.

    \b
    quarterturn run fashion.py
    quarterturn run fashion.py --trials 100 --gpus-per-trial 0.5
    quarterturn run --trainable digits-mlp --space sgd --name first --trials 20
    """
    from tuner.jobfile import built_in_job, find_space, load_job

    changes = {name: value for name, value in given.items() if value is not None}
    if file and not trainable:
        if space:
            changes["search_space"] = find_space(space)
        job = load_job(file).with_changes(**changes)
    elif trainable and space and not file:
        job = built_in_job(trainable, space, **changes)
    else:
        raise click.UsageError("Give a FILE, or both --trainable and --space")
    from tuner.engine.run import run as run_job  # not before the names are known to be right

    _show(lambda: run_job(job), job.name, job.folder)


@cli.command()
@click.argument("name")
@_BUDGET
def resume(name: str, folder: Path | None, **given: Any) -> None:
    """Continue a study after Ctrl-C or a crash, or with more trials.

    \b
    quarterturn resume fashion
    quarterturn resume fashion --trials 100
    """
    from tuner.engine.run import resume as resume_job
    from tuner.study.catalog import DEFAULT_FOLDER

    changes = {field: value for field, value in given.items() if value is not None}
    home = folder or Path(DEFAULT_FOLDER)
    _show(lambda: resume_job(name, folder=home, **changes), name, home)


@cli.command()
@click.argument("name")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--top", type=click.IntRange(min=1), help="Only so many trials.")
@click.option("--sort", default="rank", show_default=True, help="Column or parameter to sort by.")
@_FOLDER
def report(name: str, form: str | None, top: int | None, sort: str, folder: Path | None) -> None:
    """Print the ranked trials of a study, running or finished.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several.

    \b
    quarterturn report fashion --top 10
    quarterturn report fashion --json
    """
    from tuner.report import print_report, rows, to_json
    from tuner.study.catalog import DEFAULT_FOLDER
    from tuner.study.result import load_study

    result = load_study(name, folder=folder or DEFAULT_FOLDER)
    if form == "json":
        click.echo(to_json(result, sort, top))
    elif form == "csv":
        click.echo(rows(result, sort, top).to_csv(index=False), nl=False)
    else:
        print_report(result, _console(), sort, top)


@cli.command()
@click.argument("name")
@click.option("--output", type=Path, help="File to write.  [default: NAME.parquet]")
@_FOLDER
def export(name: str, output: Path | None, folder: Path | None) -> None:
    """Write the curves of a study's complete and pruned trials to a Parquet file.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. A file
    that is there already is replaced.

    \b
    quarterturn export fashion
    quarterturn export fashion --output curves/fashion.parquet
    """
    from tuner.replay.export import export as write
    from tuner.study.catalog import DEFAULT_FOLDER
    from tuner.study.result import load_study

    result = load_study(name, folder=folder or DEFAULT_FOLDER)
    stem = result.name if "://" in name else Path(name).name
    click.echo(write(result, output or Path(f"{stem}.parquet")))


@cli.command()
@click.argument("file", type=Path)
@click.option(
    "--schedulers",
    help="Comma-separated names; asha, one-epoch and all stand for several.  [default: all but "
    "wilcoxon, whose permutation tests take seconds a repeat]",
)
@click.option("--trials", default=50, show_default=True, help="To draw for each repeat.")
@click.option("--repeats", default=50, show_default=True, help="Random draws of trials.")
@click.option("--workers", default=1, show_default=True, help="Trials at a time.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", type=Path, help="A .png or .svg file to draw cost against loss to.")
def replay(
    file: Path, schedulers: str | None, as_json: bool, plot: Path | None, **given: int
) -> None:
    """Replay recorded trials through several schedulers: what each costs, and what it loses.

    FILE is a recording, as `quarterturn export` writes it. Every repeat draws trials in random
    order, the same for every scheduler. The loss is how much worse the selected trial ends than
    the one that is best when every trial runs to its end.

    \b
    quarterturn replay fashion.parquet
    quarterturn replay fashion.parquet --schedulers none,asha,rotation --workers 8 --json
    quarterturn replay fashion.parquet --plot fashion.png
    """
    from tuner.replay import bench, summary
    from tuner.replay.plot import check_picture, write_picture
    from tuner.replay.recording import read_recording

    if plot:
        check_picture(plot)
    names = bench.find_schedulers(bench.DEFAULT if schedulers is None else schedulers.split(","))
    recording = read_recording(file)
    with summary.progress(len(names) * given["repeats"]) as advance:
        comparison = bench.replay(recording, names, advance=advance, **given)
    if as_json:
        click.echo(summary.to_json(comparison, file))
    else:
        summary.print_comparison(comparison, _console())
    if plot:
        write_picture(comparison, plot)
        if not as_json:
            click.echo(f"wrote {plot}")


@cli.command()
@click.argument("finding")
@click.option("--scale", default="small", show_default=True, help="small or full.")
@click.option("--seeds", default=2, show_default=True, help="Runs of each setting.")
@click.option("--tasks", help="Comma-separated, to use only some.  [default: all]")
@click.option("--out", type=Path, help="Folder for paper.md and the plots.")
@click.option("--cpus-per-trial", type=float, help="CPUs that a run reserves.")
@click.option("--gpus-per-trial", type=float, help="GPUs that it reserves; 0.5 shares one.")
@click.option("--data", "data_dir", help="Folder with the training data.")
@_FOLDER
def paper(
    finding: str,
    scale: str,
    seeds: int,
    tasks: str | None,
    out: Path | None,
    folder: Path | None,
    **given: Any,
) -> None:
    """Run a finding of arXiv:1806.01603 again, and hold it against the paper's figures.

    FINDING is rates, alpha, weight-decay, warmup, adaptive, features, speed, or all. Running it
    again continues it; runs that several findings need are made once.

    \b
    quarterturn paper features
    quarterturn paper rates --tasks c10-cnn1 --out findings
    quarterturn paper all --scale full --gpus-per-trial 0.5 --data ~/data
    """
    from tuner.paper.catalog import find_findings
    from tuner.paper.plan import make_plan
    from tuner.study.catalog import DEFAULT_FOLDER

    only = [task.strip() for task in tasks.split(",")] if tasks else []
    plan = make_plan(find_findings(finding), scale, seeds, only)
    from tuner.paper.document import print_shown, write_document
    from tuner.paper.run import show  # not before the names are known to be right

    try:
        shown = show(
            plan,
            lambda grid, number, of: click.echo(
                f"{number}/{of}: {grid.task}, {grid.label}, {len(grid)} runs", err=True
            ),
            folder=folder or Path(DEFAULT_FOLDER),
            **{field: value for field, value in given.items() if value is not None},
        )
    except KeyboardInterrupt:
        click.echo("\ninterrupted; run the same again to go on", err=True)
        sys.exit(_INTERRUPTED)
    print_shown(shown, _console())
    if out:
        click.echo(f"wrote {write_document(shown, out)}")


@cli.command()
def spaces() -> None:
    """List the search spaces that come with quarterturn.

    \b
    quarterturn spaces
    quarterturn run --trainable digits-mlp --space sgd
    """
    import search_spaces

    _list(search_spaces.SPACES)


@cli.command()
def trainables() -> None:
    """List the trainables that come with quarterturn.

    \b
    quarterturn trainables
    quarterturn run --trainable digits-mlp --space sgd
    """
    import trainables as known

    _list({name: known.find(name) for name in known.TRAINABLES})


def _list(items: dict[str, Any]) -> None:
    width = max(map(len, items))
    for name, item in sorted(items.items()):
        click.echo(f"{name:<{width}}  {(item.__doc__ or '').strip().splitlines()[0]}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False)


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
        sys.exit(_INTERRUPTED)
    print_outcome(result, _console(), folder / name)
    if not result.finished:
        click.echo(f"interrupted; nothing is lost. To go on: {again}", err=True)
        sys.exit(_INTERRUPTED)
    if all(trial.state == "failed" for trial in result.trials):
        sys.exit(1)
