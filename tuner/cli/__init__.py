"""The command `quarterturn`: it parses arguments and calls the other packages.

- options.py: options that several commands share
- studies.py: run, resume, report, export, advise, watch, find-rate, serve
- cluster.py: submit, status, logs, stop, list, doctor
- lab.py: replay, paper, spaces, trainables

Begin with `main` below; each command imports its package only when it runs.
"""

from __future__ import annotations

import sys

import click

from tuner.cli import cluster, lab, studies
from tuner.cli.options import INTERRUPTED
from tuner.errors import InvalidInput, NotStored


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quarterturn")
def cli() -> None:
    """Tune hyperparameters on Ray, measure how far each layer turns, and prune with a reason.

    \b
    quarterturn run --trainable digits-mlp --space sgd --name first
    quarterturn report first
    """


for module in (studies, cluster, lab):
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command line.

    A mistake of the user prints one line on stderr and exits with code 2. A study that could not
    be written prints one line and exits with code 1.
    """
    try:
        sys.exit(cli(standalone_mode=False))
    except InvalidInput as error:
        _refuse(str(error))
    except NotStored as error:
        click.echo(f"quarterturn: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "quarterturn"
        _refuse(f"{error.format_message().rstrip('.')}; see {command} --help")
    except (click.Abort, KeyboardInterrupt):
        click.echo("quarterturn: interrupted", err=True)
        sys.exit(INTERRUPTED)


def _refuse(line: str) -> None:
    click.echo(f"quarterturn: {' '.join(line.split())}", err=True)
    sys.exit(2)
