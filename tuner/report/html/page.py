"""The HTML page of a study: its data, its summary sections and the whole page."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

from tuner.files import check_file, write_whole
from tuner.report.advice import Advice, advice
from tuner.report.charts import LABELS, all_charts, trial_charts
from tuner.report.charts.base import spread
from tuner.report.evidence import GroupComparison, advised, control_trials, rotation_worth, started
from tuner.report.formatting import load_call, short_reason, study_arguments, target_words
from tuner.report.html.live import Live
from tuner.report.html.templating import as_json, frame, number, plain, read, template
from tuner.report.summary import headline
from tuner.rotation import RotationCurve, forecast
from tuner.study.result import StudyResult, TrialResult


@dataclass(frozen=True)
class Winner:
    """The best trial as text.

    Attributes:
        number: the number of the trial.
        value: the metric of the trial.
        params: the configuration of the trial, by name.
        test: the metrics of the trial on the test split, by name.
        checkpoint: the folder or URL of the checkpoint, or None.
        lines: Python code that loads the trial.
    """

    number: int
    value: str
    params: dict[str, str]
    test: dict[str, str]
    checkpoint: str | None
    lines: str


@dataclass(frozen=True)
class Pruning:
    """The epochs that pruning saved, as text.

    Attributes:
        trained: the epochs trained.
        whole: the epochs without pruning.
        ratio: `whole` over `trained`; empty if nothing was trained.
        share: `trained` over `whole`, in [0, 1].
        rules: how many trials each rule has pruned.
        audited: the result of the control trials as a sentence, or empty.
    """

    trained: str
    whole: str
    ratio: str
    share: float
    rules: tuple[tuple[str, int], ...]
    audited: str


@dataclass(frozen=True)
class Worth:
    """How well rotation ranked the trials, as text.

    Attributes:
        says: the conclusion, as a sentence without its full stop.
        meaning: its explanation.
        figures: the learned weights.
    """

    says: str
    meaning: str
    figures: str


def winner(result: StudyResult, name: str, folder: str | None) -> Winner | None:
    """Return the best trial as text; None if no trial is complete.

    Args:
        result: the study.
        name: the study's name for `load_study`.
        folder: the folder of all studies; None for the default.
    """
    if not result.ranked or result.ranked[0].state != "complete":
        return None
    best = result.best
    lines = [
        "import tuner",
        "",
        f"best = {load_call(name, folder)}.best  # trial {best.number}",
        f"best.{'setting' if best.config else 'params'}  # its configuration",
    ]
    if best.checkpoint:
        lines.append("model.load_state_dict(best.weights())  # into the same network")
    return Winner(
        number=best.number,
        value=figure(best.value),
        params={key: figure(value) for key, value in best.setting.items()},
        test={key: figure(value) for key, value in best.test.items()},
        checkpoint=best.checkpoint,
        lines="\n".join(lines),
    )


def resume_command(result: StudyResult, name: str, folder: str | None) -> str | None:
    """Return the command that resumes the study; None for a study without a job."""
    if not result.num_trials:
        return None
    more = f" --trials {2 * result.num_trials}" if result.finished else ""
    return f"quarterturn resume {study_arguments(name, folder)}{more}"


def enqueue_command(pieces: Sequence[Advice], name: str, folder: str | None) -> str | None:
    """Return the command that enqueues the advice; None if no trial of the study can test it."""
    count = sum(piece.params is not None for piece in pieces)
    if not count or "#" in name:  # the command needs the study's folder
        return None
    return f"quarterturn advise {study_arguments(name, folder)} --enqueue {count}"


def pruning(result: StudyResult) -> Pruning:
    """Return the epochs saved over all complete and pruned trials."""
    ended = [trial for trial in result.trials if trial.state in ("complete", "pruned")]
    trained = math.fsum(trial.epochs for trial in ended)
    whole = len(ended) * result.max_epochs
    rules = Counter(rule_of(trial.reason) for trial in ended if trial.state == "pruned")
    shown = control_trials(result)
    return Pruning(
        trained=figure(trained),
        whole=figure(float(whole)),
        ratio=f"{whole / trained:.1f}" if trained else "",
        share=trained / whole if whole else 0.0,
        rules=tuple(rules.most_common()),
        audited=capital(shown.line(result.metric)) + "." if shown else "",
    )


def rule_of(reason: str) -> str:
    """Return the rule that a reason names: the words before its first colon."""
    if "; peers: " in reason:  # an older study, whose reasons began with what decided nothing
        return "peers"
    rule, colon, _ = reason.partition(":")
    return rule if colon and len(rule) < 60 else "other"


def worth(result: StudyResult) -> Worth | None:
    """Return how well rotation ranked the trials; None if no trial has reported rotation."""
    known = rotation_worth(result)
    if known is None:
        return None
    meanings = {
        "informative": (
            "Trials whose layers had turned further at the first comparisons also had a better "
            "metric later. So rotation helped to decide which trials continued."
        ),
        "not informative": (
            "The rotation of the layers did not separate good trials of this study from bad "
            "trials. So other signals ranked the trials. Read the curves below as a description, "
            "not as advice."
        ),
        "not known yet": (
            "This study has too few comparisons to show whether trials that had turned further at "
            "the first comparisons had a better metric later. More trials may show it."
        ),
    }
    return Worth(
        says=capital(known.words),
        meaning=meanings[known.says],
        figures=(
            f"Weight of rotation: {known.weight:.2f} ± {known.deviation:.2f}. Weight of "
            f"{result.metric}: {known.metric_weight:.2f}."
        ),
    )


def figure(value: object) -> str:
    """Return a value as text: four significant digits, with a comma between thousands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "unknown" if math.isnan(value) else str(value)
    if abs(value) >= 1000 and float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def capital(text: str) -> str:
    """Return a text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


# The limit of numbers in curves. At about 5 characters each they take 4 MB; a large page has 15.
MOST_NUMBERS = 800_000
_LEAST_REPORTS = 4
_THOUSANDTHS = 1000


def records(result: StudyResult, only: Collection[int] | None = None) -> dict[str, Any]:
    """Return the trials for the page's script, best first: one list per column, and the curves.

    Unknown numbers are None. A curve holds its layers (an index into `layers`), epochs, distances
    by layer in thousandths, the metric and the train loss. The curve of a trial that did not reach
    its last epoch also holds the low, middle and high forecast of each layer.

    Args:
        result: the study.
        only: the numbers of the trials to return, as an update of a page; None for all. The key
            `rank` then holds their ranks, from 0.
    """
    places = [
        place for place, trial in enumerate(result.ranked) if only is None or trial.number in only
    ]
    ranked = tuple(result.ranked[place] for place in places)
    settings = [trial.setting for trial in ranked]
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    networks = list(dict.fromkeys(trial.curve.layers for trial in ranked))
    index = {layers: place for place, layers in enumerate(networks)}
    reports, kept = thinning(ranked)
    return {
        "metric": result.metric,
        "mode": result.mode,
        "maxEpochs": result.max_epochs,
        "target": number(result.rotation_target.distance),
        "layers": networks,
        "reports": reports,
        "kept": kept,
        **({} if only is None else {"total": len(result.ranked), "rank": places}),
        "number": [trial.number for trial in ranked],
        "state": [trial.state for trial in ranked],
        "value": [number(trial.value) for trial in ranked],
        "min": [number(min(trial.rotation.values(), default=math.nan), 4) for trial in ranked],
        "lowest": [_lowest(trial) for trial in ranked],
        "mean": [number(_mean(trial.rotation.values()), 4) for trial in ranked],
        "epochs": [number(trial.epochs) for trial in ranked],
        "seconds": [number(trial.seconds, 4) for trial in ranked],
        "reason": [trial.reason for trial in ranked],
        "short": [short_reason(trial.reason) for trial in ranked],
        "audit": [trial.audit for trial in ranked],
        "checkpoint": [trial.checkpoint for trial in ranked],
        "test": [{name: number(v) for name, v in trial.test.items()} for trial in ranked],
        "names": names,
        # An empty list is a missing parameter; a list with None is a parameter that is None.
        "params": [
            [[plain(held[name])] if name in held else [] for held in settings] for name in names
        ],
        "curves": [
            curve_record(trial.curve, index[trial.curve.layers], reports) if place < kept else None
            for place, trial in enumerate(ranked)
        ],
    }


def thinning(trials: tuple[TrialResult, ...]) -> tuple[int, int]:
    """Return how many reports each curve keeps, and how many trials, best first, keep curves."""

    def numbers(reports: int, among: Iterable[TrialResult]) -> int:
        return sum(min(len(t.curve), reports) * (len(t.curve.layers) + 3) for t in among)

    reports = max((len(trial.curve) for trial in trials), default=0)
    while reports > _LEAST_REPORTS and numbers(reports, trials) > MOST_NUMBERS:
        reports = max(_LEAST_REPORTS, int(0.8 * reports))
    total = kept = 0
    for kept, trial in enumerate(trials, start=1):
        total += numbers(reports, [trial])
        if total > MOST_NUMBERS:
            return reports, kept - 1
    return reports, kept


def curve_record(curve: RotationCurve, network: int, reports: int) -> dict[str, Any]:
    """Return a curve with so many of its reports, evenly spread and including the last."""
    picked = spread(len(curve), reports)
    record: dict[str, Any] = {
        "layers": network,
        "epochs": [number(curve.epochs[i], 5) for i in picked],
        "distances": [
            [_thousandths(curve.distances[i][layer]) for i in picked]
            for layer in range(len(curve.layers))
        ],
        "metric": [number(curve.metric[i], 5) for i in picked],
        "loss": [number(curve.train_loss[i], 5) for i in picked],
    }
    if len(curve) and curve.layers and curve.progress < 1 and (ahead := forecast(curve)):
        ends = zip(ahead.low, ahead.mid, ahead.high, strict=True)
        record["forecast"] = [[_thousandths(end) for end in layer] for layer in ends]
    return record


def _lowest(trial: TrialResult) -> str:
    return min(trial.rotation, key=trial.rotation.__getitem__, default="")


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan


def _thousandths(distance: float) -> int | None:
    return round(_THOUSANDTHS * distance) if math.isfinite(distance) else None


_ENDS = {False: ("start.js",), True: ("merge.js", "events.js", "live.js", "start.js")}
# The parts of an open page that are rendered again, by the id of their element.
_PARTS = {"first": "first.html.j2", "charts": "charts.html.j2", "next": "advice.html.j2"}


def write_html(
    result: StudyResult,
    path: Path,
    *,
    name: str | None = None,
    folder: str | None = None,
) -> None:
    """Write the page of a study to a file, atomically. An existing file is replaced.

    Raises:
        InvalidInput: the file has another suffix than .html, or cannot be written.
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
    """Return the page of a study. It is self-contained; its policy forbids network access.

    Args:
        result: the study, running or finished.
        name: the name of the study in the shown commands; its own name by default.
        folder: the folder of all studies in the shown commands; None for the default.
        live: the current state of the study, for a served page that follows it.
    """
    scripts = ("theme.js", "table.js", "trial.js", "charts.js", *_ENDS[live is not None])
    page = template("page.html.j2").render(
        **frame(*map(read, scripts), library=_library(), served=live is not None),
        **summary_sections(result, name=name, folder=folder),
        headline=headline(result),
        records=as_json(records(result)),
        trial_specs=as_json(trial_charts(result)),
        live=live,
    )
    return page.encode("utf-8", "backslashreplace").decode()


def summary_sections(
    result: StudyResult, *, name: str | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Return the variables of the page's templates, except those of its table."""
    name = result.name if name is None else name
    charts = all_charts(result)
    pieces = advice(result)
    return {
        "result": result,
        "winner": winner(result, name, folder),
        "resume_command": resume_command(result, name, folder),
        "pruning": pruning(result),
        "worth": worth(result),
        "target": f"{capital(target_words(result.rotation_target))}.",
        "started": _sentence(started(result), result.metric),
        "advice": [_with_params(piece) for piece in pieces],
        "advised": _sentence(advised(result), result.metric),
        "enqueue_command": enqueue_command(pieces, name, folder),
        "charts": charts,
        "labels": LABELS,
        "specs": as_json({kind: figure.page_spec() for kind, figure in charts.items()}),
    }


def summary_update(
    result: StudyResult, revision: str, *, name: str | None = None, folder: str | None = None
) -> str:
    """Return the summary sections of an open page as JSON: the HTML parts and the charts."""
    shown = summary_sections(result, name=name, folder=folder)
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


def _sentence(shown: GroupComparison | None, metric: str) -> str:
    return f"{capital(shown.line(metric))}." if shown else ""


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script. Bundling takes half a second."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle
