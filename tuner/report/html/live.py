"""The parts of a served page that follow a running study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tuner.report import formatting
from tuner.report.formatting import one_line, short_reason
from tuner.report.html.templating import as_json, template
from tuner.report.study_follower import EndedTrial, StudySnapshot, TrialStatus
from tuner.study.result import TrialResult

_RECENT = 5
_STATES: tuple[TrialStatus, ...] = ("complete", "pruned", "failed", "running", "paused", "waiting")


@dataclass(frozen=True)
class Live:
    """The state of a study at one look, for its page.

    Attributes:
        seen: the result of the look.
        revision: the revision of the study. It changes with every change of the study.
    """

    seen: StudySnapshot
    revision: str

    @property
    def lede(self) -> str:
        """The number of trials by state, and the epochs that pruning saved, in one line."""
        seen = self.seen
        counts = ", ".join(
            f"{seen.counts[state]} {state}" for state in _STATES if seen.counts[state]
        )
        planned = seen.ended + seen.left
        return (
            f"{seen.ended} of {planned} trials ({counts or 'none yet'}); {formatting.saved(seen)}"
        )

    @property
    def running(self) -> Markup:
        """The running trials and the ones that ended last, as HTML."""
        seen = self.seen
        return Markup(
            template("running.html.j2").render(
                title=_title(seen),
                pace="" if seen.finished else formatting.pace(seen),
                metric=one_line(seen.metric),
                best=seen.best
                and {
                    "number": seen.best.number,
                    "value": formatting.number(seen.best.value),
                },
                rows=[_row(trial, seen) for trial in seen.live],
                more=seen.live_count - len(seen.live),
                recent=[
                    {
                        "number": trial.number,
                        "state": trial.state,
                        "result": _verdict(trial, seen),
                    }
                    for trial in seen.recent[:_RECENT]
                ],
            )
        )

    @property
    def state(self) -> Markup:
        """The initial state of the page's script as JSON; `quiet` is in seconds."""
        return as_json(
            {
                "revision": self.revision,
                "quiet": None if self.seen.quiet_s is None else round(self.seen.quiet_s),
                "finished": self.seen.finished,
            }
        )


def _title(seen: StudySnapshot) -> str:
    if count := seen.counts["running"]:
        paused = f", {seen.counts['paused']} paused" if seen.counts["paused"] else ""
        return f"{count} {'trial is' if count == 1 else 'trials are'} running{paused}"
    return "The study is finished" if seen.finished else "No trial is running"


def _row(trial: TrialResult, seen: StudySnapshot) -> dict[str, Any]:
    layer = formatting.lowest(trial)
    return {
        "number": trial.number,
        "epoch": f"{round(trial.epochs, 2):g} of {seen.max_epochs}",
        "value": formatting.number(trial.value),
        "value_curve": formatting.metric_curve(trial),
        "rotation": f"{trial.rotation[layer]:.3f}" if layer else "-",
        "rotation_curve": formatting.rotation_curve(trial, layer) if layer else "",
        "layer": one_line(layer),
        "params": formatting.params(trial),
    }


def _verdict(trial: EndedTrial, seen: StudySnapshot) -> str:
    why = f": {short_reason(trial.reason)}" if trial.reason else ""
    return f"{formatting.ended(trial, seen)}{why}"
