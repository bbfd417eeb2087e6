"""Every option that a message advises is one that a command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tuner.cli import cli

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
# Options of the commands `ray start`, `tensorboard`, `mlflow` and of Ray's daemon.
OTHERS = {"--head", "--num-gpus", "--logdir", "--backend-store-uri", "--python_worker_command"}


def messages(path: Path) -> Iterator[str]:
    """Yield the string constants of a module, the parts of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def options(command: click.Command) -> set[str]:
    own = {name for each in command.params for name in each.opts}
    if isinstance(command, click.Group):
        return own.union(*map(options, command.commands.values()))
    return own


KNOWN = options(cli) | {"--help"} | OTHERS
NAMED = sorted(
    {
        (str(path.relative_to(ROOT)), option)
        for package in ("tuner", "trainables", "search_spaces")
        for path in (ROOT / package).rglob("*.py")
        for message in messages(path)
        for option in OPTION.findall(message)
    }
)


@pytest.mark.parametrize(("path", "option"), NAMED)
def test_an_option_in_a_message_is_an_option_of_a_command(path, option):
    assert option in KNOWN


def test_options_in_messages_are_found():
    found = {option for _, option in NAMED}
    assert {"--concurrent", "--checkpoints", "--token-file"} <= found
