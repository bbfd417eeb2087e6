"""Commands for experiments on the method: replay, paper, spaces, trainables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import FOLDER, INTERRUPTED, console, given_by


@click.command()
@click.argument("file", type=Path)
@click.option(
    "--schedulers",
    help="Comma-separated names; asha, one-epoch and all are groups.  [default: all but "
    "wilcoxon, whose permutation tests take seconds a repeat]",
)
@click.option("--trials", default=50, show_default=True, help="Number of trials in each draw.")
@click.option("--repeats", default=50, show_default=True, help="Number of random draws.")
@click.option(
    "--workers", default=1, show_default=True, help="Number of trials that run at a time."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", type=Path, help="Plot costs and losses to a .png or .svg file.")
def replay(
    file: Path, schedulers: str | None, as_json: bool, plot: Path | None, **given: int
) -> None:
    """Replay recorded trials through several schedulers, and print their costs and losses.

    FILE is a recording that `quarterturn export` wrote. Each repeat draws trials in random order.
    All schedulers get the same draws. The loss is the final metric of the best trial, minus the
    final metric of the trial that the scheduler selects.

    \b
    quarterturn replay fashion.parquet
    quarterturn replay fashion.parquet --schedulers none,asha,rotation --workers 8 --json
    quarterturn replay fashion.parquet --plot fashion.png
    """
    from tuner.files import check_picture
    from tuner.replay import compare, render
    from tuner.replay.recording import read_recording

    if plot:
        check_picture(plot)
    asked = compare.DEFAULT if schedulers is None else schedulers.split(",")
    names = compare.find_schedulers(asked)
    recording = read_recording(file)
    with render.progress(len(names) * given["repeats"]) as advance:
        comparison = compare.replay(recording, names, advance=advance, **given)
    if as_json:
        click.echo(render.to_json(comparison, file))
    else:
        render.print_comparison(comparison, console())
    if plot:
        render.write_comparison(comparison, plot)
        if not as_json:
            click.echo(f"wrote {plot}")


@click.command()
@click.argument("finding")
@click.option("--scale", default="small", show_default=True, help="small or full.")
@click.option("--seeds", default=2, show_default=True, help="Runs of each setting.")
@click.option("--tasks", help="Comma-separated names of tasks.  [default: all]")
@click.option("--out", type=Path, help="Write paper.md and the plots to this folder.")
@click.option("--cpus-per-trial", type=float, help="CPUs that a run reserves.")
@click.option("--gpus-per-trial", type=float, help="GPUs that a run reserves; 0.5 is half.")
@click.option("--data", "data_dir", help="Folder with the training data.")
@FOLDER
def paper(
    finding: str,
    scale: str,
    seeds: int,
    tasks: str | None,
    out: Path | None,
    folder: Path | None,
    **given: Any,
) -> None:
    """Reproduce a finding of arXiv:1806.01603, and compare it with the paper's figures.

    FINDING is rates, alpha, weight-decay, warmup, adaptive, features, speed, or all. Run the
    command again to continue. A run that several findings need is made only once.

    \b
    quarterturn paper features
    quarterturn paper rates --tasks c10-cnn1 --out findings
    quarterturn paper all --scale full --gpus-per-trial 0.5 --data ~/data
    """
    from tuner.paper.plan import make_plan
    from tuner.paper.reproduce import find_findings
    from tuner.study.folder import DEFAULT_FOLDER

    only = [task.strip() for task in tasks.split(",")] if tasks else []
    plan = make_plan(find_findings(finding), scale, seeds, only)
    from tuner.paper.reproduce import (
        print_shown,
        show,  # only after the names are checked, because the import is slow
        write_document,
    )

    try:
        shown = show(
            plan,
            lambda grid, number, of: click.echo(
                f"{number}/{of}: {grid.task}, {grid.label}, {len(grid)} runs", err=True
            ),
            folder=folder or Path(DEFAULT_FOLDER),
            **given_by(given),
        )
    except KeyboardInterrupt:
        click.echo("\ninterrupted; run the same again to go on", err=True)
        sys.exit(INTERRUPTED)
    print_shown(shown, console())
    if out:
        click.echo(f"wrote {write_document(shown, out)}")


@click.command()
def spaces() -> None:
    """List the search spaces that come with quarterturn.

    \b
    quarterturn spaces
    quarterturn run --trainable digits-mlp --space sgd
    """
    import search_spaces

    _list(search_spaces.SPACES)


@click.command()
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


COMMANDS = (replay, paper, spaces, trainables)
