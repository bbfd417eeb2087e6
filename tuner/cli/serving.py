"""The command that shows all studies in a browser."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tuner.cli.options import FOLDER, storage_url
from tuner.errors import InvalidInput


@click.command()
@FOLDER
@click.option(
    "--storage",
    callback=storage_url,
    help="Database URL, to show the studies in it; @FILE reads it from one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8270, show_default=True)
@click.option(
    "--token-file",
    type=Path,
    metavar="FILE",
    help="Holds the token.  [default: QUARTERTURN_SERVE_TOKEN, or ~/.quarterturn/serve_token]",
)
@click.option("--no-token", is_flag=True, help="Let everyone on this machine look.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between two looks at the storage.",
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
    """Show all studies in a browser, live, until Ctrl-C. It changes nothing.

    Whoever opens it needs the token; the terminal says how to sign in.

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
    from tuner.study.catalog import DEFAULT_FOLDER

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


COMMANDS = (serve,)
