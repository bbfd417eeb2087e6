"""What a person is told first: what won and how to use it, what was saved, what rotation said."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.report.advice import Advice
from tuner.report.evidence import audits, rotation_worth
from tuner.study.result import StudyResult


@dataclass(frozen=True)
class Winner:
    """The best trial and how to use it.

    Attributes:
        value: its metric; params and test (metrics on the test split) by name, all in words.
        lines: of Python that load the trial.
    """

    number: int
    value: str
    params: dict[str, str]
    test: dict[str, str]
    checkpoint: str | None
    lines: str


@dataclass(frozen=True)
class Pruning:
    """What pruning saved, in words and epochs; `share` of them was trained, in [0, 1]."""

    trained: str
    whole: str
    ratio: str
    share: float
    rules: tuple[tuple[str, int], ...]
    audited: str


@dataclass(frozen=True)
class Worth:
    """What rotation was worth: a word or two, and what they mean and rest on."""

    says: str
    meaning: str
    figures: str


def winner(result: StudyResult, name: str, folder: str | None) -> Winner | None:
    """Return the best trial; None as long as none is complete.

    Args:
        result: the study.
        name: what to give to `load_study`.
        folder: where studies are kept, unless it is the default.
    """
    if not result.ranked or result.ranked[0].state != "complete":
        return None
    best = result.best
    where = f", folder={folder!r}" if folder else ""
    lines = [
        "import tuner",
        "",
        f"best = tuner.load_study({name!r}{where}).best  # trial {best.number}",
        f"best.{'setting' if best.config else 'params'}  # its configuration",
    ]
    if best.checkpoint:
        lines.append("model.load_state_dict(best.weights())  # into the network it describes")
    return Winner(
        number=best.number,
        value=figure(best.value),
        params={key: figure(value) for key, value in best.setting.items()},
        test={key: figure(value) for key, value in best.test.items()},
        checkpoint=best.checkpoint,
        lines="\n".join(lines),
    )


def going_on(result: StudyResult, name: str, folder: str | None) -> str | None:
    """Return the command that continues the study; None for one that was not made by a job."""
    if not result.num_trials:
        return None
    more = f" --trials {2 * result.num_trials}" if result.finished else ""
    return f"quarterturn resume {shlex.quote(name)}{more}{_where(folder)}"


def enqueuing(pieces: Sequence[Advice], name: str, folder: str | None) -> str | None:
    """Return the command that has the study try what is advised; None where it cannot be tried."""
    count = sum(piece.params is not None for piece in pieces)
    if not count or "#" in name:  # the command needs the study's folder
        return None
    return f"quarterturn advise {shlex.quote(name)} --enqueue {count}{_where(folder)}"


def _where(folder: str | None) -> str:
    return f" --folder {shlex.quote(folder)}" if folder else ""


def pruning(result: StudyResult) -> Pruning:
    """Return what pruning saved, by all trials that ended complete or pruned."""
    ended = [trial for trial in result.trials if trial.state in ("complete", "pruned")]
    trained = math.fsum(trial.epochs for trial in ended)
    whole = len(ended) * result.max_epochs
    rules = Counter(rule_of(trial.reason) for trial in ended if trial.state == "pruned")
    shown = audits(result)
    return Pruning(
        trained=figure(trained),
        whole=figure(float(whole)),
        ratio=f"{whole / trained:.1f}" if trained else "",
        share=trained / whole if whole else 0.0,
        rules=tuple(rules.most_common()),
        audited=capital(shown.line(result.metric)) + "." if shown else "",
    )


def rule_of(reason: str) -> str:
    """Return the rule that a reason names, in its own first words; they end at a colon."""
    rule, colon, _ = reason.partition(":")
    return rule if colon and len(rule) < 60 else "other"


def worth(result: StudyResult) -> Worth | None:
    """Return what rotation was worth in this study; None where no trial reported any."""
    known = rotation_worth(result)
    if known is None:
        return None
    meanings = {
        "informative": (
            "Trials whose layers had turned further at the first comparisons also did better "
            "later, so rotation had a say in which trials went on."
        ),
        "not informative": (
            "How far layers had turned did not tell good trials of this study from bad ones, so "
            "trials were compared by what did. Read the curves below as description, not advice."
        ),
        "not known yet": (
            "There are too few comparisons in this study to tell whether trials that had turned "
            "further by then did better in the end. More trials may tell."
        ),
    }
    return Worth(
        says=known.says,
        meaning=meanings[known.says],
        figures=(
            f"weight {known.weight:.2f} ± {known.deviation:.2f}, beside {known.metric_weight:.2f} "
            f"for {result.metric}"
        ),
    )


def figure(value: object) -> str:
    """Return a value in words: four significant digits, thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "unknown" if math.isnan(value) else str(value)
    if abs(value) >= 1000 and float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def capital(text: str) -> str:
    """Return a sentence that begins with a capital letter."""
    return text[:1].upper() + text[1:]
