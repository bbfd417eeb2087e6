"""Which folder a data set is looked for in, and how a missing one is downloaded once and whole."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from tuner.errors import InvalidInput

DATA_VARIABLE = "QUARTERTURN_DATA"
DOWNLOAD_TIMEOUT_S = 20.0


def given_folder(data_dir: str | None) -> Path | None:
    """Return the folder of `data_dir` or else of QUARTERTURN_DATA, and None when neither is set."""
    given = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else None


def cache_folder() -> Path:
    """Return where downloads and converted data sets are kept; it need not exist."""
    return Path.home() / ".cache" / "quarterturn"


def downloaded(name: str, part: str, download: Callable[[str], object], remedy: str) -> Path:
    """Return the cache folder, with the folder `part` in it, downloading that when it is missing.

    `download(root)` writes `root/part`. Many trials may start at once on a new node: each
    downloads for itself, and the first to finish moves the whole folder to its place. Raises
    `InvalidInput`, with `name` and `remedy`, when there is no way to the files.
    """
    cache = cache_folder()
    if (cache / part).is_dir():
        return cache
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            download(fresh)
            if not (cache / part).is_dir():
                Path(fresh, part).rename(cache / part)
    except (OSError, RuntimeError) as error:
        if (cache / part).is_dir():  # another trial was first, between the question and the move
            return cache
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(
            f"{name} is not on this machine and cannot be downloaded into {cache} "
            f"({reason}); {remedy}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return cache
