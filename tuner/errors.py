"""The one error that a person using the project can cause, and the sentences it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InvalidInput(ValueError):
    """Something the user gave cannot be used: one line with the rule, the value and the remedy.

    The command line prints it without a traceback and exits with code 2. Raised inside a trial it
    ends the whole job, since every other trial would meet it too.
    """


class NotStored(OSError):
    """A study could not be written; what is in its storage can be resumed.

    The command line prints it without a traceback and exits with code 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidInput:
    """Return the error for a name that is not among the known ones, the nearest of them first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    ordered = near + [other for other in names if other not in near]
    return InvalidInput(f"unknown {kind} {name!r}; known: {', '.join(ordered) or 'none'}")
