"""The command that finds the rate for a job's rotation: find-rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import PLACE, console, job_of, pairs


@click.command("find-rate")
@click.argument("file", required=False)
@click.option("--trainable", help="A name from `quarterturn trainables`, or module:Class.")
@click.option("--space", help="A name from `quarterturn spaces`, or module:function.")
@click.option(
    "--optimizer",
    help="sgd, adam, adamw, rmsprop, layca, layca-adam, ...  [default: the space's own Layca]",
)
@click.option("--distance", default=0.95, show_default=True, help="To turn the hidden layers by.")
@click.option("--epochs", "max_epochs", type=int, help="Epochs of the run that the rate is for.")
@click.option("--seed", type=int, help="Of the initialisation and the batches.")
@click.option(
    "--set",
    "config",
    multiple=True,
    metavar="KEY=VALUE",
    callback=pairs,
    help="Of the run's config, e.g. batch_size=32; repeatable.",
)
@PLACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", type=Path, help="A .png or .svg file to draw the curve to.")
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

    A few short probes, one epoch together at most, say how far each rate of Layca, or learning
    rate of another optimizer, will turn them in a run of this model, optimizer, schedule and
    length, whether it learns there, and which layers lag.

    \b
    quarterturn find-rate fashion.py
    quarterturn find-rate --trainable digits-mlp --space layca --epochs 20
    quarterturn find-rate fashion.py --optimizer adamw --set weight_decay=0.05
    quarterturn find-rate fashion.py --optimizer layca-adam --distance 0.7 --plot rates.svg
    """
    from tuner.report.rates import check_plot, print_rates, rates_json, write_rates_plot

    if plot:
        check_plot(plot)
    job = job_of(file, trainable, space, given)
    from tuner.engine.find_rate import find_rate as find  # not before the names are right

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
    """Return what a value means in JSON, or itself where it means nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return text


COMMANDS = (find_rate,)
