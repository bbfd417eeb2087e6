"""The page: everything that a study has shown, put into its template."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

from tuner.report.advice import Advice, advice
from tuner.report.charts import LABELS, all_drawn, trial_charts
from tuner.report.document import headline
from tuner.report.evidence import Compared, advised, started
from tuner.report.html.embed import as_json, plain
from tuner.report.html.live import Live
from tuner.report.html.records import records
from tuner.report.html.story import capital, enqueuing, going_on, pruning, winner, worth
from tuner.report.html.templating import frame, read, template
from tuner.report.writing import check_file, write_whole
from tuner.study.result import StudyResult

_ENDS = {False: ("start.js",), True: ("merge.js", "events.js", "live.js", "start.js")}
# What is made anew while a page is open, by the element that holds it.
_PARTS = {"first": "first.html.j2", "charts": "charts.html.j2", "next": "advice.html.j2"}


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
    live: Live | None = None,
) -> str:
    """Return the page of a study: self-contained, and closed to the network by its own policy.

    Args:
        result: the study, running or finished.
        name: what to read it by, in the commands shown; without it, the study's own.
        folder: where studies are kept, for the commands shown; None for the default.
        live: how it stands now, for a page that is served and follows the study.
    """
    scripts = ("theme.js", "table.js", "trial.js", "charts.js", *_ENDS[live is not None])
    page = template("page.html.j2").render(
        **frame(*map(read, scripts), library=_library(), served=live is not None),
        **story(result, name=name, folder=folder),
        headline=headline(result),
        records=as_json(records(result)),
        trial_specs=as_json(trial_charts(result)),
        live=live,
    )
    return page.encode("utf-8", "backslashreplace").decode()


def story(
    result: StudyResult, *, name: str | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Return what the page tells besides its table, as its templates read it."""
    name = result.name if name is None else name
    drawn = all_drawn(result)
    pieces = advice(result)
    return {
        "result": result,
        "winner": winner(result, name, folder),
        "going_on": going_on(result, name, folder),
        "pruning": pruning(result),
        "worth": worth(result),
        "started": _in_words(started(result), result.metric),
        "advice": [_with_params(piece) for piece in pieces],
        "advised": _in_words(advised(result), result.metric),
        "enqueuing": enqueuing(pieces, name, folder),
        "drawn": drawn,
        "labels": LABELS,
        "specs": as_json({kind: figure.page_spec() for kind, figure in drawn.items()}),
    }


def retold(
    result: StudyResult, revision: str, *, name: str | None = None, folder: str | None = None
) -> str:
    """Return the same for a page that is open, as JSON: its parts as HTML, and its charts."""
    shown = story(result, name=name, folder=folder)
    parts = {part: template(file).render(**shown) for part, file in _PARTS.items()}
    head = as_json({"revision": revision, "parts": parts})
    return f'{head[:-1]},"specs":{shown["specs"]}}}'


def _with_params(piece: Advice) -> dict[str, Any]:
    params = None
    if piece.setting is not None:
        params = json.dumps({key: plain(value) for key, value in piece.setting.items()})
    return {
        "title": piece.title,
        "evidence": piece.evidence,
        "action": piece.action,
        "params": params,
    }


def _in_words(shown: Compared | None, metric: str) -> str:
    return f"{capital(shown.line(metric))}." if shown else ""


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; bundling them takes half a second."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle
