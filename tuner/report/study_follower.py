"""StudyFollower: read a study that another process runs again and again, only what is new."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.rotation import RotationTarget
from tuner.storage.lease import PAUSED
from tuner.study.folder import StudyFolder
from tuner.study.load import NUM_TRIALS, STATES, read_trial
from tuner.study.pruners import MAX_EPOCHS, METRIC
from tuner.study.result import State, TrialResult, epochs_to_come
from tuner.study.schema import read_target, reports_of

# The rate of trials is that of so many last ones, and as many verdicts are kept to be shown.
_RECENT = 20
# Some trial starts or ends at least once while one trains. If nothing did for longer than so many
# times the longest, nobody ran the study.
_PAUSE = 2

Told = Literal["complete", "pruned", "failed", "running", "paused", "waiting"]


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
        counts: trials by how they stand; paused ones wait for their peers, and those that wait for
            `resume` are waiting.
        best: the best complete trial, or None.
        epochs: trained in ended trials; saved: by those that were pruned.
        live: running and paused trials that may be shown, those that reported last first.
        recent: the trials that ended last, latest first.
        per_hour: trials that end in an hour, by the last ones; None before two have ended.
        left_s: seconds until all have ended, by the epochs to come; None if that is not known.
        quiet_s: seconds since anything was written, or None if that is not known; news_at: when
            that was, in seconds since the epoch.
        news: numbers of the trials that have changed since the look before; all at the first.
        rotation_target: what the study's layers should reach.
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
    left_s: float | None
    quiet_s: float | None
    news_at: float | None
    news: frozenset[int]
    rotation_target: RotationTarget

    @property
    def ended(self) -> int:
        return sum(self.counts[state] for state in ("complete", "pruned", "failed"))

    @property
    def left(self) -> int:
        """How many trials are still to end."""
        return max(self.num_trials - self.ended, self.live_count + self.counts["waiting"])

    @property
    def live_count(self) -> int:
        """How many trials run or are paused."""
        return self.counts["running"] + self.counts["paused"]

    @property
    def finished(self) -> bool:
        return self.ended > 0 and self.left == 0


class StudyFollower:
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
        # What never changes is read once, so that a look that fails has changed nothing here.
        self._name = study.study_name
        is_max = study.direction is StudyDirection.MAXIMIZE
        self._mode: Literal["min", "max"] = "max" if is_max else "min"
        self._now = now
        self._known = 0
        self._open: dict[int, tuple[int, float]] = {}  # number -> what it had written, and when
        self._counts: Counter[Told] = Counter()
        self._epochs = self._in_pruned = self._longest_s = 0.0
        self._reached: list[float] = []  # epochs of those that have ended
        self._moments: list[float] = []  # when these began and ended
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
        standing["paused"] = sum(_is_paused(trials[n]) for n in self._open)
        standing["running"] = len(self._open) - standing["waiting"] - standing["paused"]
        running = [n for n in self._open if trials[n].state == TrialState.RUNNING]
        running.sort(key=lambda number: (-self._open[number][1], -self._open[number][0], number))
        num_trials = int(attrs.get(NUM_TRIALS, 0))
        return Seen(
            name=self._name,
            metric=str(attrs.get(METRIC, "value")),
            mode=self._mode,
            max_epochs=max_epochs,
            num_trials=num_trials,
            counts=standing,
            best=self._best,
            epochs=self._epochs,
            saved=self._counts["pruned"] * max_epochs - self._in_pruned,
            live=tuple(read_trial(trials[number], max_epochs, None) for number in running[:rows]),
            recent=tuple(trial for _, trial in reversed(self._recent)),
            per_hour=self._per_hour(),
            left_s=self._left_s([trials[n] for n in self._open], num_trials, max_epochs),
            quiet_s=None if self._news_at is None else max(0.0, self._now() - self._news_at),
            news_at=self._news_at,
            news=frozenset(news),
            rotation_target=read_target(attrs),
        )

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
        self._reached.append(epochs)
        self._moments += _moments(trial)
        self._longest_s = max(self._longest_s, read.seconds)
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

    def _left_s(
        self, live: Sequence[FrozenTrial], num_trials: int, max_epochs: int
    ) -> float | None:
        """Seconds for the epochs to come, at the rate of those that have been trained."""
        if len(self._recent) < 2:
            return None
        reached = {trial.number: max(reports_of(trial), default=0.0) for trial in live}
        waiting = [reached[trial.number] for trial in live if _is_paused(trial)]
        to_come = epochs_to_come(
            ended=self._reached,
            running=[reached[trial.number] for trial in live if not _is_paused(trial)],
            waiting=waiting,
            new=max(0, num_trials - self._known),
            max_epochs=max_epochs,
        )
        moments = [*self._moments, *(at for trial in live for at in _moments(trial))]
        between = np.diff(np.sort(moments), append=self._now())
        longest_s = _PAUSE * self._longest_s or math.inf
        spent_s = float(between.clip(0.0, longest_s).sum())
        trained = math.fsum([*self._reached, *reached.values()])
        return to_come * spent_s / trained if trained else None


def _is_paused(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and bool(trial.system_attrs.get(PAUSED))


def _moments(trial: FrozenTrial) -> list[float]:
    """When a trial began and ended, as far as it has, in seconds since the epoch."""
    known = (trial.datetime_start, trial.datetime_complete)
    return [at.timestamp() for at in known if at is not None]


def _completed(trial: FrozenTrial) -> datetime:
    return trial.datetime_complete or datetime.min
