"""Commands that say what to try next, and watch a study while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.cluster import AT, studies_at
from tuner.cli.options import FOLDER, console
from tuner.errors import InvalidInput


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option(
    "--enqueue",
    type=click.IntRange(min=1),
    metavar="K",
    help="Put up to K of the configurations into the study, for `resume` to run.",
)
@FOLDER
@AT
def advise(
    name: str, as_json: bool, enqueue: int | None, folder: Path | None, address: str | None
) -> None:
    """Say what to try next, with the evidence from the study's own trials.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. Where the
    trials show nothing that is more than chance, nothing is advised.

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
    from tuner.report.advice.show import advice_json, print_advice
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
    from tuner.study.catalog import find_study
    from tuner.study.enqueue import Wanted
    from tuner.study.enqueue import enqueue as put

    wanted = [
        Wanted(piece.title, piece.params, piece.config)
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
    help="Seconds between two looks.",
)
@FOLDER
def watch(name: str, interval: float, folder: Path | None) -> None:
    """Show a study on the terminal while it runs elsewhere; Ctrl-C ends the view alone.

    NAME is the study's name, or the URL of a database, with #STUDY if it holds several. Off a
    terminal it prints one snapshot.

    \b
    quarterturn watch fashion
    quarterturn watch fashion --interval 10
    """
    from tuner.report.watch import watch as show
    from tuner.study.catalog import DEFAULT_FOLDER

    show(name, folder or DEFAULT_FOLDER, console(), interval)


COMMANDS = (advise, watch)
