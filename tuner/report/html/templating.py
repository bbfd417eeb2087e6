"""The templates, and what every page of them has: its style, its scripts, and its policy."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tuner.report.html.embed import policy

_PACKAGE = "tuner.report.html"


def template(name: str, package: str = _PACKAGE) -> Template:
    """Return a template of a package, which may build on those of the report."""
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
    """Return what `base.html.j2` needs.

    Args:
        scripts: of the page, by their text; they become one.
        library: another one, or empty.
        served: whether the page may ask the server that it came from.
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
    """Return a file of the templates'."""
    return (folder / name).read_text(encoding="utf-8")
