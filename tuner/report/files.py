"""Write a report's file: whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from tuner.errors import InvalidInput


def check_file(path: Path, suffixes: tuple[str, ...], what: str) -> None:
    """Raise InvalidInput where `what` cannot go: before the work, not after it."""
    if path.suffix.lower() not in suffixes:
        raise InvalidInput(
            f"{what} must be a file that ends in {' or '.join(suffixes)}, got {str(path)!r}; "
            "rename it"
        )
    if not path.parent.is_dir():
        raise InvalidInput(
            f"the folder of {what} must exist, got {str(path)!r}; make it or choose another file"
        )


def write_whole(path: Path, write: Callable[[Path], object], what: str) -> None:
    """Have `write` make a file beside `path`, then put it there; one that is there is replaced.

    Raises:
        InvalidInput: it cannot be written.
    """
    # The suffix stays the last: some writers go by it.
    unfinished = path.parent / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        write(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise InvalidInput(
            f"{what} must be writable, got {str(path)!r} ({error.strerror or error}); "
            "choose another file"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
