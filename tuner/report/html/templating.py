"""Jinja templates with style, scripts and content policy, and safe embedding of data."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

# Characters that could end a script or begin a comment are written as JSON escapes.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def as_json(value: Any) -> Markup:
    """Return strict JSON that is safe inside a script element.

    Raises:
        ValueError: the value contains NaN or infinity; see `number`.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    # A lone surrogate, as from a file name that is not UTF-8, cannot be encoded.
    return Markup(text.encode("utf-8", "backslashreplace").decode())


def number(value: float, digits: int = 6) -> float | int | None:
    """Return a number rounded to significant digits; None if it is not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def plain(value: Any) -> Any:
    """Return a parameter's value as a JSON value, or as text if JSON has no such value."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return number(value, 10)
    return str(value)


def policy(scripts: list[str], *, served: bool = False) -> str:
    """Return the Content-Security-Policy that allows these scripts and no other resource.

    Inline styles are allowed, since charts set their own.

    Args:
        scripts: the texts of the scripts.
        served: whether the page may send requests and forms to its server.
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


_PACKAGE = "tuner.report.html"


def template(name: str, package: str = _PACKAGE) -> Template:
    """Return a template of a package. It may extend the templates of the report."""
    return _environment(package).get_template(name)


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_PACKAGE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def frame(*scripts: str, library: str = "", served: bool = False) -> dict[str, Any]:
    """Return the variables of `base.html.j2`.

    Args:
        scripts: the texts of the page's scripts, which are joined.
        library: the text of a separate script, or empty.
        served: whether the page may send requests to its server.
    """
    script = "\n".join(scripts)
    return {
        "version": version("quarterturn"),
        "style": Markup(read("style.css")),
        "script": Markup(script),
        "library": Markup(library),
        "policy": policy([script, *filter(None, [library])], served=served),
    }


@cache
def read(name: str, folder: Path = Path(__file__).parent / "templates") -> str:
    """Return the text of a file in the folder of templates."""
    return (folder / name).read_text(encoding="utf-8")
