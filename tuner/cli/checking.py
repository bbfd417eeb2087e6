"""Commands that look for what is wrong with a machine or a cluster: doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tuner.cli.options import console


@click.command()
@click.option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's job server.")
@click.option("--folder", help="Where studies are kept.  [default: [~/]studies]")
@click.option("--data", help="Folder with the training data.")
def doctor(address: str | None, folder: str | None, data: str | None) -> None:
    """Look for what people get wrong: here, and on every node of a cluster.

    \b
    quarterturn doctor
    quarterturn doctor --address http://head:8265 --folder /shared/studies --data /shared/data
    """
    from tuner.cluster.doctor import check_cluster, check_here, print_checks
    from tuner.cluster.doctor import examine as examine_cluster
    from tuner.engine.probe import describe_machine
    from tuner.study.catalog import DEFAULT_FOLDER

    # With a cluster, the folder and the data are those there.
    here = describe_machine((not address and folder) or DEFAULT_FOLDER, None if address else data)
    checks = check_here(here, runs_trials=not address)
    if address:
        from tuner.cluster.server import JobServer
        from tuner.cluster.submit import remote_folder

        server = JobServer(address)
        where = remote_folder(Path(folder)) if folder else ""
        nodes = examine_cluster(server, where, data)
        checks += check_cluster(here, nodes, server.is_open())
    print_checks(checks, console())
    if any(check.state == "wrong" for check in checks):
        sys.exit(1)


@click.command(hidden=True)
@click.option("--folder", required=True)
@click.option("--data")
def examine(folder: str, data: str | None) -> None:
    """Print what the nodes of this cluster say of themselves, for a reader on another machine."""
    import json

    from tuner.engine.probe import describe_nodes
    from tuner.engine.session import quiet_ray

    with quiet_ray():
        click.echo(json.dumps(describe_nodes(folder, data)))


COMMANDS = (doctor, examine)
