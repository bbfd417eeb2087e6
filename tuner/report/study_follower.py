"""StudyFollower: poll a study while it runs, and read only what has changed."""

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

# The rate of trials is measured over this many last ended trials, and a view can show as many.
_RECENT = 20
# While a study runs, a trial starts or ends at least once in the time that one trial takes. So in a
# gap of more than _GAP times the longest trial, no process ran the study. A gap of a minute does
# not count: Ray may take that long to start its workers.
_GAP = 2
_GAP_S = 60.0

TrialStatus = Literal["complete", "pruned", "failed", "running", "paused", "waiting"]


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended; its value is NaN if it reported none."""

    number: int
    state: State
    value: float
    epochs: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class StudySnapshot:
    """The state of a study at one time.

    Attributes:
        name: the study's name.
        metric: the name of its metric.
        mode: whether the metric is minimised or maximised.
        max_epochs: epochs of a whole trial.
        num_trials: trials that the study is to have; 0 if that is unknown.
        counts: number of trials by status. A paused trial has a checkpoint and may be promoted. A
            waiting trial was enqueued, or interrupted, and runs next.
        best: the best complete trial, or None.
        progress: epochs trained, as a share of these and the epochs to come, in [0, 1]. It grows
            while trials are paused.
        epochs: the epochs of all complete and pruned trials together.
        saved: epochs that pruned trials did not train.
        live: running and paused trials, sorted by their last report, latest first; at most `rows`
            of `StudyFollower.poll`.
        recent: the trials that ended last, latest first.
        per_hour: trials that end in an hour, measured over the last ended trials; None before two
            have ended.
        elapsed_s: seconds in which the study was run.
        eta_s: seconds until all trials have ended, by the epochs to come; None before two have
            ended.
        quiet_s: seconds since anything was written; None if unknown.
        changed_at: time of the last write, in seconds since 1970; None if unknown.
        changed: numbers of the trials that have changed since the last snapshot; in the first
            snapshot, of all trials.
        rotation_target: the distances that the study's layers should reach.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    max_epochs: int
    num_trials: int
    counts: Counter[TrialStatus]
    best: EndedTrial | None
    progress: float
    epochs: float
    saved: float
    live: tuple[TrialResult, ...]
    recent: tuple[EndedTrial, ...]
    per_hour: float | None
    elapsed_s: float
    eta_s: float | None
    quiet_s: float | None
    changed_at: float | None
    changed: frozenset[int]
    rotation_target: RotationTarget

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(self.counts[state] for state in ("complete", "pruned", "failed"))

    @property
    def left(self) -> int:
        """How many trials have not ended yet, including trials that have not started."""
        return max(self.num_trials - self.ended, self.live_count + self.counts["waiting"])

    @property
    def live_count(self) -> int:
        """How many trials are running or paused."""
        return self.counts["running"] + self.counts["paused"]

    @property
    def finished(self) -> bool:
        """Whether all trials have ended."""
        return self.ended > 0 and self.left == 0


class StudyFollower:
    """Reads an open study again and again; it holds no lock and writes nothing.

    Args:
        study: the study, open for reading.
        folder: the study's folder, or None.
        now: returns the time in seconds since 1970.
    """

    def __init__(
        self, study: optuna.Study, folder: Path | None, now: Callable[[], float] = time.time
    ) -> None:
        self._study = study
        # Constants are read once, here, so that a failed poll does not change the follower.
        self._name = study.study_name
        is_max = study.direction is StudyDirection.MAXIMIZE
        self._mode: Literal["min", "max"] = "max" if is_max else "min"
        self._now = now
        self._known = 0
        self._open: dict[int, tuple[int, float]] = {}  # number -> items written, time of the last
        self._rows: dict[int, tuple[int, TrialResult]] = {}  # number -> items written, the trial
        self._counts: Counter[TrialStatus] = Counter()
        self._epochs = self._in_pruned = self._longest_s = 0.0
        self._reached: list[float] = []  # epochs of the ended trials
        self._moments: list[float] = []  # times at which these began and ended
        self._best: EndedTrial | None = None
        self._recent: deque[tuple[datetime, EndedTrial]] = deque(maxlen=_RECENT)
        journal = StudyFolder(folder).journal if folder else None
        there = journal is not None and journal.exists()
        self._changed_at = journal.stat().st_mtime if there and journal else None

    def poll(self, rows: int = 20) -> StudySnapshot:
        """Read what has changed in the study, and return its state.

        Args:
            rows: how many running and paused trials to include, at most.
        """
        attrs = self._study.user_attrs
        trials = self._study.get_trials(deepcopy=False)
        max_epochs = int(attrs.get(MAX_EPOCHS) or _longest(trials))
        first = self._known == 0
        for trial in trials[self._known :]:
            self._open[trial.number] = (-1, 0.0)
        self._known = len(trials)
        ended, changed = [], []
        for number, (before, _) in list(self._open.items()):
            if self._update(trials[number], before, first):
                ended.append(trials[number])
            if self._open.get(number, (None,))[0] != before:
                changed.append(number)
        for trial in sorted(ended, key=_completed):
            self._end(trial)
        counts: Counter[TrialStatus] = Counter(self._counts)
        counts["waiting"] = sum(trials[n].state == TrialState.WAITING for n in self._open)
        counts["paused"] = sum(_is_paused(trials[n]) for n in self._open)
        counts["running"] = len(self._open) - counts["waiting"] - counts["paused"]
        running = [n for n in self._open if trials[n].state == TrialState.RUNNING]
        running.sort(key=lambda number: (-self._open[number][1], -self._open[number][0], number))
        num_trials = int(attrs.get(NUM_TRIALS, 0))
        live = [trials[n] for n in self._open]
        elapsed_s = self._elapsed_s(live)
        trained, to_come = self._trained_and_to_come(live, num_trials, max_epochs)
        return StudySnapshot(
            name=self._name,
            metric=str(attrs.get(METRIC, "value")),
            mode=self._mode,
            max_epochs=max_epochs,
            num_trials=num_trials,
            counts=counts,
            best=self._best,
            progress=trained / (trained + to_come) if trained else 0.0,
            epochs=self._epochs,
            saved=self._counts["pruned"] * max_epochs - self._in_pruned,
            live=self._live(trials, running[:rows], max_epochs),
            recent=tuple(trial for _, trial in reversed(self._recent)),
            per_hour=self._per_hour(),
            elapsed_s=elapsed_s,
            eta_s=to_come * elapsed_s / trained if trained and len(self._recent) > 1 else None,
            quiet_s=None if self._changed_at is None else max(0.0, self._now() - self._changed_at),
            changed_at=self._changed_at,
            changed=frozenset(changed),
            rotation_target=read_target(attrs),
        )

    def _live(
        self, trials: Sequence[FrozenTrial], numbers: Sequence[int], max_epochs: int
    ) -> tuple[TrialResult, ...]:
        """Return trials that have not ended; a trial without new data is not read again."""
        known, self._rows = self._rows, {}
        for number in numbers:
            written = self._open[number][0]
            row = known.get(number)
            if row is None or row[0] != written:
                row = (written, read_trial(trials[number], max_epochs, None))
            self._rows[number] = row
        return tuple(self._rows[number][1] for number in numbers)

    def _update(self, trial: FrozenTrial, before: int, first: bool) -> bool:
        """Update the record of a trial since the last poll; return whether it has ended."""
        written = len(trial.user_attrs) + len(trial.intermediate_values) + len(trial.params)
        written += trial.state == TrialState.RUNNING
        ended = trial.state.is_finished()
        if (ended or written != before) and not first:
            self._changed_at = self._now()
        if ended:
            del self._open[trial.number]
        elif written != before:
            # The first poll cannot know the time. Trials are then in the order of items written.
            self._open[trial.number] = (written, 0.0 if first else self._now())
        return ended

    def _end(self, trial: FrozenTrial) -> None:
        epochs = max(reports_of(trial), default=0.0)
        read = read_trial(trial, max(1, math.ceil(epochs)), None)
        state = STATES[trial.state]
        shown = EndedTrial(trial.number, state, read.value, epochs, read.seconds, read.reason)
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

    def _leads(self, trial: EndedTrial) -> bool:
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

    def _elapsed_s(self, live: Sequence[FrozenTrial]) -> float:
        """Return the seconds since the first trial began, less the gaps in which nothing ran."""
        moments = [*self._moments, *(at for trial in live for at in _moments(trial))]
        between = np.diff(np.sort(moments), append=self._now()) if moments else np.zeros(1)
        gap_s = max(_GAP * self._longest_s, _GAP_S) if self._longest_s else math.inf
        return float(between.clip(0.0, gap_s).sum())

    def _trained_and_to_come(
        self, live: Sequence[FrozenTrial], num_trials: int, max_epochs: int
    ) -> tuple[float, float]:
        """Return the epochs that were trained, and an estimate of the epochs to come."""
        reached = {trial.number: max(reports_of(trial), default=0.0) for trial in live}
        to_come = epochs_to_come(
            ended=self._reached,
            running=[reached[trial.number] for trial in live if not _is_paused(trial)],
            waiting=[reached[trial.number] for trial in live if _is_paused(trial)],
            new=max(0, num_trials - self._known),
            max_epochs=max_epochs,
        )
        return math.fsum([*self._reached, *reached.values()]), to_come


def _longest(trials: Sequence[FrozenTrial]) -> int:
    """Return the most epochs that any trial has reported, at least 1."""
    return max(1, *(trial.last_step or 0 for trial in trials)) if trials else 1


def _is_paused(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and bool(trial.system_attrs.get(PAUSED))


def _moments(trial: FrozenTrial) -> list[float]:
    """Return when a trial began and ended, as far as it has, in seconds since 1970."""
    known = (trial.datetime_start, trial.datetime_complete)
    return [at.timestamp() for at in known if at is not None]


def _completed(trial: FrozenTrial) -> datetime:
    return trial.datetime_complete or datetime.min
