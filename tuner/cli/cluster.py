"""Commands for clusters: submit, status, logs, stop, list, doctor."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import INTERRUPTED, JOB, as_arguments, console, job_of, options

if TYPE_CHECKING:
    from tuner.cluster.job_client import Job, JobServer


# `submit` waits this long for the job to start, to show mistakes that only the cluster can find.
_BEGINS_WITHIN_S = 60.0

AT = click.option(
    "--address", help="Job server of the cluster that has the study: http://HEAD:8265."
)
_ADDRESS = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    required=True,
    help="The cluster's job server: http://HEAD:8265.  [default: RAY_API_SERVER_ADDRESS]",
)
_FOLLOW = click.option("--follow", "-f", is_flag=True, help="Print the job's output until it ends.")


@click.command()
@JOB
@options(
    click.option(
        "--folder",
        help="Folder of studies on the cluster.  [default: its QUARTERTURN_FOLDER, or ~/studies]",
    ),
    click.option(
        "--include",
        multiple=True,
        help="Also send this file or folder, which is beside FILE; repeatable.",
    ),
    _ADDRESS,
    _FOLLOW,
)
def submit(
    file: str | None,
    trainable: str | None,
    space: str | None,
    folder: str | None,
    include: tuple[str, ...],
    address: str,
    follow: bool,
    **given: Any,
) -> None:
    """Send a tuning job to a Ray cluster, where it runs without this terminal.

    The command first checks the job. It sends the job, the modules that FILE imports from its own
    folder, and the packages of quarterturn, at most 100 MB. Submit the job again to continue its
    study.

    \b
    quarterturn submit fashion.py --address http://head:8265
    quarterturn submit fashion.py --address http://head:8265 --trials 100 --follow
    quarterturn submit --trainable digits-mlp --space sgd --name first --address head:8265
    """
    job = job_of(file, trainable, space, {**given, "folder": Path(folder) if folder else None})
    from tuner.cluster.submit import Source, wait_for_start
    from tuner.cluster.submit import submit as submit_job

    named = {"file": file, "trainable": trainable, "space": space}
    script = Path(file.partition(":")[0]) if file else _beside(trainable, space)
    source = Source(
        [
            *([f"{Path(file).name}"] if file else []),
            *as_arguments({key: named[key] for key in ("trainable", "space")}),
            *as_arguments(given, leave_out=("storage",)),
        ],
        file=script,
        include=include,
        storage=given["storage"],
    )
    sent = submit_job(job, address=address, source=source)
    from tuner.cluster.job_client import JobServer

    server = JobServer(address)
    click.echo(f"submitted {sent.id} to {server.address}")
    if follow:
        _follow(server, sent.id)
        return
    sent = wait_for_start(server, sent, _BEGINS_WITHIN_S)
    if sent.state in ("failed", "stopped"):
        _end(server, sent)
    _next(server, sent)


@click.command()
@click.argument("job")
@_ADDRESS
def status(job: str, address: str) -> None:
    """Print the state of a submitted job.

    JOB is the id of the job, or the name of a study, which means its newest job.

    \b
    quarterturn status fashion --address http://head:8265
    """
    from tuner.cluster.job_client import JobServer
    from tuner.cluster.jobs import print_status

    server = JobServer(address)
    found = server.find(job)
    print_status(found, server.logs(found.id), console())
    _next(server, found)


@click.command()
@click.argument("job")
@_ADDRESS
@_FOLLOW
def logs(job: str, address: str, follow: bool) -> None:
    """Print the output of a submitted job.

    JOB is the id of the job, or the name of a study, which means its newest job.

    \b
    quarterturn logs fashion --address http://head:8265 -f
    """
    from tuner.cluster.job_client import JobServer

    server = JobServer(address)
    found = server.find(job)
    if follow:
        _follow(server, found.id)
    else:
        click.echo(server.logs(found.id), nl=False)


@click.command()
@click.argument("job")
@_ADDRESS
def stop(job: str, address: str) -> None:
    """Stop a submitted job. The reports and checkpoints of its trials are kept.

    JOB is the id of the job, or the name of a study, which means its newest job.

    \b
    quarterturn stop fashion --address http://head:8265
    """
    from tuner.cluster.job_client import JobServer
    from tuner.cluster.jobs import stop as stop_job

    server = JobServer(address)
    found = server.find(job)
    if found.over:
        click.echo(f"{found.id} has already ended: {found.state}")
        return
    ended = stop_job(server, found)
    click.echo(
        f"{ended.id} {ended.state}; nothing is lost. To go on: "
        f"quarterturn resume {ended.study} --address {server.address}"
    )


@click.command(name="list")
@_ADDRESS
def list_jobs(address: str) -> None:
    """List the tuning jobs of a cluster, newest first.

    \b
    quarterturn list --address http://head:8265
    """
    from tuner.cluster.job_client import JobServer
    from tuner.cluster.jobs import print_jobs

    print_jobs(JobServer(address).jobs(), console())


def resume_there(
    address: str, name: str, folder: Path | None, given: dict[str, Any], flags: Sequence[str] = ()
) -> None:
    """Continue a study on its cluster, and print the next commands.

    Args:
        address: the cluster's job server.
        name: the name of the study.
        folder: the folder of studies on the cluster; None for the study's last one.
        given: options by the names of the job's fields.
        flags: further options, as they are typed.
    """
    from tuner.cluster.job_client import JobServer
    from tuner.cluster.submit import resume as resume_job
    from tuner.cluster.submit import wait_for_start

    server = JobServer(address)
    where = folder.as_posix() if folder else None
    sent = resume_job(server, name, [*as_arguments(given), *flags], folder=where)
    click.echo(f"submitted {sent.id} to {server.address}")
    sent = wait_for_start(server, sent, _BEGINS_WITHIN_S)
    if sent.state in ("failed", "stopped"):
        _end(server, sent)
    _next(server, sent)


@contextmanager
def studies_at(address: str | None, name: str, folder: Path | None) -> Iterator[Path]:
    """Yield the folder of studies to read. A study on a cluster is fetched first.

    Args:
        address: the job server of the cluster that has the study; None if it is on this machine.
        name: the name of the study.
        folder: the folder of studies; None for the default.
    """
    from tuner.study.folder import DEFAULT_FOLDER

    if not address:
        yield folder or Path(DEFAULT_FOLDER)
        return
    from tuner.cluster.job_client import JobServer
    from tuner.cluster.remote_read import fetched
    from tuner.cluster.submit import folder_of

    server = JobServer(address)
    where = folder.as_posix() if folder else folder_of(server, name)
    with fetched(server, name, where) as home:
        yield home


def _beside(*references: str | None) -> Path | None:
    """Return the file of the first trainable or space that is given as module:attribute."""
    for reference in references:
        module, colon, _ = (reference or "").partition(":")
        file = Path(f"{module.removesuffix('.py').replace('.', '/')}.py")
        if colon and file.is_file():
            return file
    return None


def _follow(server: JobServer, job_id: str) -> None:
    """Print a job's output until it ends, then exit with its code if it failed."""
    from tuner.cluster.logs import follow

    try:
        ended = follow(server, job_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(
            f"\n{job_id} goes on. To follow it again: "
            f"quarterturn logs {job_id} -f --address {server.address}",
            err=True,
        )
        sys.exit(INTERRUPTED)
    if ended.state != "succeeded":
        _end(server, ended)
    click.echo(f"{ended.id} succeeded")


def _end(server: JobServer, job: Job) -> None:
    """Exit after a failed or stopped job: with 2 after a mistake of the user, otherwise with 1."""
    from tuner.cluster.remote_read import last_words

    words = f": {last_words(server.logs(job.id))}" if job.state == "failed" else ""
    click.echo(f"quarterturn: {job.id} {job.state}{words}", err=True)
    sys.exit(2 if job.exit_code == 2 else 1)


def _next(server: JobServer, job: Job) -> None:
    verbs = [f"report {job.study}"] if job.over else [f"logs {job.id} -f", f"stop {job.id}"]
    if not job.over:
        verbs = [f"status {job.id}", *verbs, f"report {job.study}"]
    elif job.state != "succeeded":
        verbs.append(f"resume {job.study}")
    for verb in verbs:
        click.echo(f"  quarterturn {verb} --address {server.address}")


@click.command()
@click.option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's job server.")
@click.option("--folder", help="Folder of studies.  [default: QUARTERTURN_FOLDER, or [~/]studies]")
@click.option("--data", help="Folder with the training data.")
def doctor(address: str | None, folder: str | None, data: str | None) -> None:
    """Check this machine, or every node of a cluster, for common mistakes.

    \b
    quarterturn doctor
    quarterturn doctor --address http://head:8265 --folder /shared/studies --data /shared/data
    """
    from tuner.cluster.doctor import check_cluster, check_here, describe_machine, print_checks
    from tuner.cluster.doctor import examine as examine_cluster
    from tuner.study.folder import DEFAULT_FOLDER

    # With an address, the folder and the data are on the nodes of the cluster.
    here = describe_machine((not address and folder) or DEFAULT_FOLDER, None if address else data)
    checks = check_here(here, runs_trials=not address)
    if address:
        from tuner.cluster.job_client import JobServer
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
    """Print the checks of this cluster's nodes, for a process on another machine."""
    import json

    from tuner.cluster.doctor import describe_nodes
    from tuner.engine.session import ray_session

    with ray_session():
        click.echo(json.dumps(describe_nodes(folder, data)))


COMMANDS = (submit, status, logs, stop, list_jobs, doctor, examine)
