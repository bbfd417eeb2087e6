"""The page: everything that a study has shown, put into its template."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tuner.report.advice import Advice, advice
from tuner.report.charts import LABELS, all_drawn, trial_charts
from tuner.report.document import headline
from tuner.report.evidence import Advised, Started, advised, started
from tuner.report.html.embed import as_json, plain, policy
from tuner.report.html.records import records
from tuner.report.html.story import capital, enqueuing, going_on, pruning, winner, worth
from tuner.report.writing import check_file, write_whole
from tuner.study.result import StudyResult

_SCRIPTS = ("theme.js", "table.js", "trial.js", "charts.js", "start.js")
_TEMPLATES = Path(__file__).parent / "templates"


def write_html(
    result: StudyResult,
    path: Path,
    *,
    name: str | None = None,
    folder: str | None = None,
) -> None:
    """Write the page of a study to a file, whole or not at all; one that is there is replaced.

    Raises:
        InvalidInput: it has another suffix than .html, or cannot be written.
    """
    check_file(path, (".html", ".htm"), "the page")
    text = to_html(result, name=name, folder=folder)
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"), "the page")


def to_html(
    result: StudyResult,
    *,
    name: str | None = None,
    folder: str | None = None,
) -> str:
    """Return the page of a study: self-contained, and closed to the network by its own policy.

    Args:
        result: the study, running or finished.
        name: what to read it by, in the commands shown; without it, the study's own.
        folder: where studies are kept, for the commands shown; None for the default.
    """
    name = result.name if name is None else name
    drawn = all_drawn(result)
    pieces = advice(result)
    scripts = [_read(script) for script in _SCRIPTS]
    library = _library()
    environment = Environment(
        loader=PackageLoader("tuner.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        result=result,
        headline=headline(result),
        version=version("quarterturn"),
        winner=winner(result, name, folder),
        going_on=going_on(result, name, folder),
        pruning=pruning(result),
        worth=worth(result),
        started=_in_words(started(result), result.metric),
        advice=[_with_params(piece) for piece in pieces],
        advised=_in_words(advised(result), result.metric),
        enqueuing=enqueuing(pieces, name, folder),
        drawn=drawn,
        labels=LABELS,
        records=as_json(records(result)),
        specs=as_json({kind: figure.page_spec() for kind, figure in drawn.items()}),
        trial_specs=as_json(trial_charts(result)),
        style=Markup(_read("style.css")),
        script=Markup("\n".join(scripts)),
        library=Markup(library),
        policy=policy([library, "\n".join(scripts)]),
    )
    return page.encode("utf-8", "backslashreplace").decode()


def _with_params(piece: Advice) -> dict[str, Any]:
    params = None
    if piece.params is not None:
        params = json.dumps({key: plain(value) for key, value in piece.params.items()})
    return {
        "title": piece.title,
        "evidence": piece.evidence,
        "action": piece.action,
        "params": params,
    }


def _in_words(shown: Advised | Started | None, metric: str) -> str:
    return f"{capital(shown.line(metric))}." if shown else ""


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; bundling them takes half a second."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
