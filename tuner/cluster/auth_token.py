"""The token of a cluster, from where Ray keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.errors import InvalidInput


def find_token() -> str | None:
    """Return the cluster's token from where Ray keeps it, or None.

    RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ``~/.ray/auth_token``. Ray's own
    client looks there only when RAY_AUTH_MODE says so.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.expanduser().read_text().strip() or None
    except OSError as error:
        if named:
            raise InvalidInput(
                f"RAY_AUTH_TOKEN_PATH must name a file that can be read, got {named!r} "
                f"({error.strerror}); copy the head's token there"
            ) from error
        return None
