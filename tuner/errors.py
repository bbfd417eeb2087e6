"""The errors of the project: invalid input by the user, and a study that cannot be written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InvalidInput(ValueError):
    """An error that the user caused: one line with the rule, the value and the remedy.

    The command line prints it without a traceback and exits with code 2. In a trial it ends the
    whole job, because every other trial would raise it too.

    Example:
        >>> raise InvalidInput("warmup_epochs must be > 0, got -1; use 0.25")
        Traceback (most recent call last):
        tuner.errors.InvalidInput: warmup_epochs must be > 0, got -1; use 0.25
    """


class NotStored(OSError):
    """A study could not be written. It can be resumed from the data in its storage.

    The command line prints it without a traceback and exits with code 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidInput:
    """Return the error for an unknown name. It lists the known names, the most similar first.

    Args:
        kind: the kind of name, such as "pruner".
        name: the unknown name.
        known: the known names.

    Example:
        >>> print(unknown_name("pruner", "medain", ["asha", "median", "none"]))
        unknown pruner 'medain'; known: median, asha, none
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    ordered = near + [other for other in names if other not in near]
    return InvalidInput(f"unknown {kind} {name!r}; known: {', '.join(ordered) or 'none'}")
