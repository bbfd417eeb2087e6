"""Options that several commands share, and functions that process their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.job import TuningJob

INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C


def options(*several: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds several options, in this order."""

    def add(command: Any) -> Any:
        for option in reversed(several):
            command = option(command)
        return command

    return add


def given_by(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value, by the names of the job's fields."""
    return {name: value for name, value in values.items() if value is not None}


def job_of(
    file: str | None, trainable: str | None, space: str | None, given: dict[str, Any]
) -> TuningJob:
    """Return the job that a command line describes.

    Args:
        file: a Python file that defines a job; None with `trainable` and `space`.
        trainable: a name, or module:Class; None with `file`.
        space: a name, or module:function; beside `file` it replaces the job's space.
        given: options by the names of the job's fields; None leaves a field unchanged.

    Raises:
        UsageError: neither a file, nor both a trainable and a space.
        InvalidInput: the job cannot be made.
    """
    from tuner.jobfile import built_in_job, find_space, load_job

    changes = given_by(given)
    if file and not trainable:
        if space:
            changes["search_space"] = find_space(space)
        return load_job(file).with_changes(**changes)
    if trainable and space and not file:
        return built_in_job(trainable, space, **changes)
    raise click.UsageError("Give a FILE, or both --trainable and --space")


def as_arguments(given: dict[str, Any], leave_out: tuple[str, ...] = ()) -> list[str]:
    """Return options of the current command as arguments of a command line.

    Args:
        given: the options by the names of their fields; None is left out.
        leave_out: the names of fields that are left out.
    """
    names = {option.name: option.opts[0] for option in click.get_current_context().command.params}
    return [
        f"{names[field]}={one}"
        for field, value in given.items()
        if value is not None and field not in leave_out
        for one in _each(value)
    ]


def _each(value: Any) -> list[Any]:
    """Return the values of an option, one for each time that it is given."""
    if isinstance(value, dict):
        return [f"{key}={amount}" for key, amount in value.items()]
    return list(value) if isinstance(value, tuple) else [value]


def console() -> Console:
    """Return the console for reports: standard output."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def storage_url(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the URL of a storage; @FILE reads it from a file."""
    if not value or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).expanduser().read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"--storage @FILE must name a file that can be read, got {value!r} "
            f"({error.strerror}); put the database's URL in it"
        ) from error


def pairs(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str] | None:
    """Return KEY=VALUE options as a dict; None if there is none."""
    for pair in given:
        if not all(pair.partition("=")):
            raise click.BadParameter(f"must be {option.metavar}, got {pair!r}", context, option)
    return dict(pair.split("=", 1) for pair in given) or None


def _unless_empty(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...] | None:
    return given or None


FOLDER = click.option(
    "--folder", type=Path, help="Folder of studies.  [default: QUARTERTURN_FOLDER, or studies]"
)
RESOURCES = options(
    click.option("--cpus-per-trial", type=float, help="CPUs that a trial reserves."),
    click.option("--gpus-per-trial", type=float, help="GPUs that a trial reserves; 0.5 is half."),
    click.option("--memory-gb-per-trial", type=float, help="Memory that a trial reserves, in GB."),
    click.option(
        "--node-label",
        "node_labels",
        multiple=True,
        metavar="KEY=VALUE",
        callback=pairs,
        help="Use only nodes with this label, e.g. gpu=H200; repeatable.",
    ),
    click.option(
        "--resource-per-trial",
        "resources_per_trial",
        multiple=True,
        metavar="NAME=AMOUNT",
        callback=pairs,
        help="Amount of a custom resource that a trial reserves; repeatable.",
    ),
)
DATA = click.option("--data", "data_dir", help="Folder with the training data.")
BUDGET = options(
    click.option("--trials", "num_trials", type=int, help="Total number of trials."),
    RESOURCES,
    DATA,
    click.option(
        "--log",
        "loggers",
        multiple=True,
        callback=_unless_empty,
        help="Also log to tensorboard or mlflow; repeatable. none stops both.",
    ),
    click.option(
        "--concurrent",
        "max_concurrent",
        type=int,
        help="Maximum number of trials that run at a time.",
    ),
)
RETRY_FAILED = click.option(
    "--retry-failed", is_flag=True, help="Run each failed trial once more, as a new trial."
)
JOB = options(
    click.argument("file", required=False),
    click.option("--trainable", help="A name from `quarterturn trainables`, or module:Class."),
    click.option("--space", help="A name from `quarterturn spaces`, or module:function."),
    click.option("--name", help="Name of the study."),
    click.option("--metric", help="Metric to optimise, a key of the reports."),
    click.option("--mode", type=click.Choice(["min", "max"]), help="Minimise or maximise it."),
    click.option("--epochs", "max_epochs", type=int, help="Epochs of a complete trial."),
    click.option("--seed", type=int, help="Seed of the suggestions and of the training."),
    click.option(
        "--storage",
        callback=storage_url,
        help="Database URL for the study, instead of a file; @FILE reads the URL from a file.",
    ),
    click.option("--checkpoints", help="Shared folder or URL for checkpoints: s3://bucket/path."),
    click.option("--pruner", help="rotation, none, median, percentile, asha, hyperband, wilcoxon."),
    click.option("--sampler", help="tpe, random, gp, nsgaii, qmc."),
    click.option(
        "--start",
        type=click.Choice(["rotation", "random"]),
        help="First trials: a ladder of final rotations, or the sampler's suggestions.",
    ),
    BUDGET,
)
