"""Putting data and scripts into a page so that nothing in them can become part of it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any

from markupsafe import Markup

# What could end a script, or begin a comment, is written as its JSON escape.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def as_json(value: Any) -> Markup:
    """Return strict JSON that is safe inside of a script element.

    Raises:
        ValueError: it holds a number that JSON has no word for; see `number`.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    # A lone surrogate, as in a file name that is not UTF-8, cannot be written to a file.
    return Markup(text.encode("utf-8", "backslashreplace").decode())


def number(value: float, digits: int = 6) -> float | int | None:
    """Return a number to so many significant digits; None where it is not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def plain(value: Any) -> Any:
    """Return a parameter's value as JSON has it; in words where JSON has no such value."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return number(value, 10)
    return str(value)


def policy(scripts: list[str], *, served: bool = False) -> str:
    """Return the Content-Security-Policy that lets these scripts run, and nothing load.

    Styles may be inline, since charts set their own. A page that is `served` may ask its server,
    and send it a form.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        + ("connect-src 'self'; form-action 'self'; " if served else "form-action 'none'; ")
        + "base-uri 'none'"
    )
