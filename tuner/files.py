"""Write a result to a file: check the file's name before the work, then write it completely."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from tuner.errors import InvalidInput

_PICTURES = (".png", ".svg")


def check_file(path: Path, suffixes: tuple[str, ...], what: str) -> None:
    """Check the name and the folder of a file, before the work that produces its content.

    Args:
        path: the file.
        suffixes: the allowed endings, in lower case.
        what: the file's content as the error names it, for example "the plot".

    Raises:
        InvalidInput: the ending is not allowed, or the folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise InvalidInput(
            f"{what} must be a file that ends in {' or '.join(suffixes)}, got {str(path)!r}; "
            "rename it"
        )
    if not path.parent.is_dir():
        raise InvalidInput(
            f"the folder of {what} must exist, got {str(path)!r}; make it or choose another file"
        )


def check_picture(path: Path) -> None:
    """Check the name and the folder of a picture, before the work that produces it.

    Args:
        path: the picture.

    Raises:
        InvalidInput: the file is neither .png nor .svg, or its folder does not exist.
    """
    check_file(path, _PICTURES, "the plot")


def write_whole(path: Path, write: Callable[[Path], object], what: str) -> None:
    """Write a file completely or not at all; an existing file is replaced.

    Args:
        path: the file.
        write: writes the content to its argument, the path of a temporary file beside `path`.
        what: the file's content as the error names it, for example "the plot".

    Raises:
        InvalidInput: the file cannot be written.
    """
    # The temporary file has the same suffix, because some writers choose the format by it.
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
