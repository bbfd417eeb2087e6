"""Commands that list what comes with quarterturn: spaces, trainables."""

from __future__ import annotations

from typing import Any

import click


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


COMMANDS = (spaces, trainables)
