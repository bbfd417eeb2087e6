"""Format numbers, durations, names and progress as text, for the terminal and the page."""

from __future__ import annotations

import math
import shlex
import unicodedata
from collections.abc import Sequence

from tuner.report.study_follower import EndedTrial, StudySnapshot
from tuner.rotation import RotationTarget
from tuner.rotation.decision import PEERS
from tuner.study.result import StudyResult, TrialResult

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, direction marks, line separators


def one_line(text: str) -> str:
    """Return the text on one line, without control characters and direction marks."""
    blanked = " ".join(text.split())
    return "".join(char for char in blanked if unicodedata.category(char) not in _HIDDEN)


# Characters of a short reason, at most.
_SHORT = 60


def short_reason(reason: str) -> str:
    """Return what decided, in at most 60 characters: the first sentence of a reason.

    Longer ones, such as errors, are cut in the middle.

    Example:
        >>> short_reason("peers: 8th of 14 at epoch 0.25; the best 5 go on. Compared by ...")
        '8th of 14 at epoch 0.25; the best 5 go on'
    """
    first = one_line(reason).split(". ")[0].removesuffix(".")
    if first.startswith("target out of reach: "):  # in older studies
        first = first.partition("; ")[2] or first
    first = first.removeprefix(PEERS)
    if len(first) <= _SHORT:
        return first
    # An error often names what is wrong at its end.
    end = first[-(_SHORT // 2) :].lstrip()
    return f"{first[: _SHORT - 1 - len(end)].rstrip()}…{end}"


_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 8  # characters


def pace(study: StudySnapshot) -> str:
    """Return the rate of trials, the number of trials left, and the estimated time left."""
    if study.finished:
        return "finished"
    if study.per_hour is None:
        return f"{study.left} left"
    rate = f"{study.per_hour:.3g}/h, {study.left} left"
    return rate if study.eta_s is None else f"{rate}, about {duration(study.eta_s)}"


def saved(study: StudySnapshot) -> str:
    """Return how many epochs pruning has saved."""
    whole = study.epochs + study.saved
    share = study.saved / whole if whole else 0.0
    return f"pruning saved {study.saved:.4g} of {whole:.4g} epochs ({share:.0%})"


def goal(study: StudySnapshot | StudyResult) -> str:
    """Return what the study optimises, and in which direction."""
    return f"{'maximising' if study.mode == 'max' else 'minimising'} {one_line(study.metric)}"


def epochs_of(epochs: float, max_epochs: int) -> str:
    """Return the epochs that a trial has trained, and the epochs of a whole trial, as "3/10"."""
    return f"{round(epochs, 2):g}/{max_epochs}"


def ended(trial: EndedTrial, study: StudySnapshot) -> str:
    """Return the metric and the epochs of a trial that has ended."""
    return f"{number(trial.value)}, {epochs_of(trial.epochs, study.max_epochs)} epochs"


def params(trial: TrialResult) -> str:
    """Return a trial's parameters on one line."""
    return one_line("  ".join(f"{name}={number(value)}" for name, value in trial.setting.items()))


def lowest(trial: TrialResult) -> str:
    """Return the layer with the least rotation; empty if the trial has reported no rotation."""
    return min(trial.rotation, key=trial.rotation.__getitem__, default="")


def metric_curve(trial: TrialResult) -> str:
    """Return a trial's metric as a small curve, from its lowest to its highest."""
    known = [value for value in trial.curve.metric if math.isfinite(value)]
    return curve(known, min(known, default=0.0), max(known, default=0.0))


def rotation_curve(trial: TrialResult, layer: str) -> str:
    """Return a layer's rotation as a small curve, from 0 to a quarter turn for every trial."""
    at = trial.curve.layers.index(layer)
    return curve([row[at] for row in trial.curve.distances], 0, 1)


def curve(values: Sequence[float], low: float, high: float) -> str:
    """Return the finite values as a small curve of at most 8 characters."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) > _CURVE:
        known = [known[round(at * (len(known) - 1) / (_CURVE - 1))] for at in range(_CURVE)]
    if not high > low:
        return _BARS[0] * len(known)
    share = [min(max((value - low) / (high - low), 0.0), 1.0) for value in known]
    return "".join(_BARS[round(place * (len(_BARS) - 1))] for place in share)


def number(value: object) -> str:
    """Return a float with four digits, and any other value as text."""
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def distance(value: float) -> str:
    """Return a cosine distance with three decimals; "-" if it is NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def study_arguments(name: str, folder: str | None) -> str:
    """Return a study's name and folder as arguments of a command, quoted for a shell."""
    return shlex.quote(name) + (f" --folder {shlex.quote(folder)}" if folder else "")


def load_call(name: str, folder: str | None) -> str:
    """Return the Python call that loads a study."""
    return f"tuner.load_study({name!r}{f', folder={folder!r}' if folder else ''})"


def distance_words(target: RotationTarget) -> str:
    """Return the target distance of hidden layers, in words."""
    return "a quarter turn" if target.distance == 1 else f"{target.distance:g}"


def target_words(target: RotationTarget) -> str:
    """Return the whole rotation target as a sentence without its full stop."""
    return (
        f"hidden layers should reach {distance_words(target)}, and {target.floor:.3g} is enough; "
        f"{other_bars(target)}"
    )


def other_bars(target: RotationTarget) -> str:
    """Return the targets of all layers except the hidden layers, in words.

    Shortcuts are named only if their target is not the default.
    """
    if target.first is None and target.head is None:
        bars = ["the first layer and the last have no target"]
    else:
        bars = [_bar("the first layer", target.first), _bar("the last layer", target.head)]
    if target.shortcut != RotationTarget.shortcut:
        bars.append(_bar("each shortcut", target.shortcut))
    for pattern, bar in target.to_dict()["patterns"]:
        bars.append(_bar(f"each layer named {one_line(pattern)}", bar))
    return ", ".join(bars)


def _bar(layers: str, bar: float | None) -> str:
    return f"{layers} has no target" if bar is None else f"{layers} should reach {bar:g}"
