"""A study that someone else runs, read again and again: each look reads what is new."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study.catalog import StudyFolder
from tuner.study.load import NUM_TRIALS, STATES, read_trial
from tuner.study.pruners import MAX_EPOCHS, METRIC
from tuner.study.record import reports_of
from tuner.study.result import State, TrialResult

# The rate of trials is that of so many last ones, and as many verdicts are kept to be shown.
_RECENT = 20

Told = Literal["complete", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Ended:
    """A trial that has ended; its value is NaN where it reported none."""

    number: int
    state: State
    value: float
    epochs: float
    reason: str


@dataclass(frozen=True)
class Seen:
    """What one look at a study shows.

    Attributes:
        counts: trials by how they stand; paused ones are running to the study, and those that wait
            for `resume` are waiting.
        best: the best complete trial, or None.
        epochs: trained in ended trials; saved: by those that were pruned.
        live: running trials that may be shown, those that reported last first.
        recent: the trials that ended last, latest first.
        per_hour: trials that end in an hour, by the last ones; None before two have ended.
        quiet_s: seconds since anything was written, or None if that is not known; news_at: when
            that was, in seconds since the epoch.
        news: numbers of the trials that have changed since the look before; all at the first.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    num_trials: int
    counts: Counter[Told]
    best: Ended | None
    epochs: float
    saved: float
    live: tuple[TrialResult, ...]
    recent: tuple[Ended, ...]
    per_hour: float | None
    quiet_s: float | None
    news_at: float | None
    news: frozenset[int]

    @property
    def ended(self) -> int:
        return sum(self.counts[state] for state in ("complete", "pruned", "failed"))

    @property
    def left(self) -> int:
        """How many trials are still to end."""
        return max(self.num_trials - self.ended, self.counts["running"] + self.counts["waiting"])

    @property
    def left_s(self) -> float | None:
        """Seconds until they have, at the rate of the last ones."""
        return self.left / self.per_hour * 3600 if self.per_hour else None

    @property
    def finished(self) -> bool:
        return self.ended > 0 and self.left == 0


class Following:
    """Looks at an open study; it holds no lock and writes nothing.

    Args:
        study: as opened for reading.
        folder: of the study, or None.
        now: seconds since the epoch.
    """

    def __init__(
        self, study: optuna.Study, folder: Path | None, now: Callable[[], float] = time.time
    ) -> None:
        self._study = study
        self._now = now
        self._known = 0
        self._open: dict[int, tuple[int, float]] = {}  # number -> what it had written, and when
        self._counts: Counter[Told] = Counter()
        self._epochs = self._in_pruned = 0.0
        self._best: Ended | None = None
        self._recent: deque[tuple[datetime, Ended]] = deque(maxlen=_RECENT)
        journal = StudyFolder(folder).journal if folder else None
        there = journal is not None and journal.exists()
        self._news_at = journal.stat().st_mtime if there and journal else None

    def look(self, rows: int = 20) -> Seen:
        """Return how the study stands, with up to `rows` running trials."""
        attrs = self._study.user_attrs
        trials = self._study.get_trials(deepcopy=False)
        longest = max((trial.last_step or 0 for trial in trials), default=0)
        max_epochs = int(attrs.get(MAX_EPOCHS) or max(1, longest))
        first = self._known == 0
        for trial in trials[self._known :]:
            self._open[trial.number] = (-1, 0.0)
        self._known = len(trials)
        ended, news = [], []
        for number, (before, _) in list(self._open.items()):
            if self._update(trials[number], before, first):
                ended.append(trials[number])
            if self._open.get(number, (None,))[0] != before:
                news.append(number)
        for trial in sorted(ended, key=_completed):
            self._end(trial)
        standing: Counter[Told] = Counter(self._counts)
        standing["waiting"] = sum(trials[n].state == TrialState.WAITING for n in self._open)
        standing["running"] = len(self._open) - standing["waiting"]
        running = [n for n in self._open if trials[n].state == TrialState.RUNNING]
        running.sort(key=lambda number: (-self._open[number][1], -self._open[number][0], number))
        return Seen(
            name=self._study.study_name,
            metric=str(attrs.get(METRIC, "value")),
            mode=self._mode,
            max_epochs=max_epochs,
            num_trials=int(attrs.get(NUM_TRIALS, 0)),
            counts=standing,
            best=self._best,
            epochs=self._epochs,
            saved=self._counts["pruned"] * max_epochs - self._in_pruned,
            live=tuple(read_trial(trials[number], max_epochs, None) for number in running[:rows]),
            recent=tuple(trial for _, trial in reversed(self._recent)),
            per_hour=self._per_hour(),
            quiet_s=None if self._news_at is None else max(0.0, self._now() - self._news_at),
            news_at=self._news_at,
            news=frozenset(news),
        )

    @property
    def _mode(self) -> Literal["min", "max"]:
        return "max" if self._study.direction is StudyDirection.MAXIMIZE else "min"

    def _update(self, trial: FrozenTrial, before: int, first: bool) -> bool:
        """Note what a trial has written since; return whether it has ended."""
        written = len(trial.user_attrs) + len(trial.intermediate_values) + len(trial.params)
        written += trial.state == TrialState.RUNNING
        ended = trial.state.is_finished()
        if (ended or written != before) and not first:
            self._news_at = self._now()
        if ended:
            del self._open[trial.number]
        elif written != before:
            # At the first look nobody knows when: the order is then that of what they have written.
            self._open[trial.number] = (written, 0.0 if first else self._now())
        return ended

    def _end(self, trial: FrozenTrial) -> None:
        epochs = max(reports_of(trial), default=0.0)
        read = read_trial(trial, max(1, math.ceil(epochs)), None)
        state = STATES[trial.state]
        shown = Ended(trial.number, state, read.value, epochs, read.reason)
        self._counts[state] += 1
        if state != "failed":
            self._epochs += epochs
        if state == "pruned":
            self._in_pruned += epochs
        if state == "complete" and self._leads(shown):
            self._best = shown
        self._recent.append((_completed(trial), shown))

    def _leads(self, trial: Ended) -> bool:
        if math.isnan(trial.value):
            return False
        if self._best is None:
            return True
        best = self._best.value
        return trial.value > best if self._mode == "max" else trial.value < best

    def _per_hour(self) -> float | None:
        if len(self._recent) < 2:
            return None
        span = (self._recent[-1][0] - self._recent[0][0]).total_seconds()
        return (len(self._recent) - 1) / span * 3600 if span > 0 else None


def _completed(trial: FrozenTrial) -> datetime:
    return trial.datetime_complete or datetime.min
