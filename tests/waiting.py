"""Waiting for what comes sooner or later: on a busy machine later."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(true: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Wait until something is true; fail saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
