"""TrialManager: the one Optuna study behind Ray Tune's searcher and scheduler.

Ray asks for trials in one place, hands over results in another and tells of their end in a third.
Here they meet: what the searcher suggested (`roster`), what the trial reported and what the pruner
said of it (`judge`) and how it ended all go into one study, in memory, before Ray goes on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tuner.engine.callbacks import RunCallback
from tuner.engine.trial_queue import PausedTrials, TrialQueue
from tuner.engine.trial_report import (
    Report,
    epoch_of,
    is_advised,
    known_of,
    reached,
    read,
    says_anything,
)
from tuner.errors import InvalidInput
from tuner.storage.database import DatabaseUnavailable
from tuner.storage.paths import CHECKPOINT, StoragePath
from tuner.study.initial_trials import InitialTrials
from tuner.study.load import STATES
from tuner.study.pruners import explain
from tuner.study.schema import (
    AUDIT,
    REASON,
    has_report,
    read_config,
    report_last_rotation,
    report_rotation,
    report_test,
    reports_of,
    whole_config,
)
from tuner.study.search_space import Space, suggest


@dataclass(frozen=True)
class Ending:
    """How a trial ends, and why; a complete one has no reason."""

    state: TrialState
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a trial stops now, and how it then ends.

    Without an ending one that stops is to wait for its peers, or has run to its end.
    """

    stops: bool
    ending: Ending | None = None


_GOES_ON = Decision(False)
_STOPS = Decision(True)


class ReportHandler:
    """Records the reports of trials, and decides on each what becomes of its trial.

    Args:
        study: whose trials they are; its pruner judges them.
        room: where they may come to wait.
        metric: the key of the report to optimise.
        max_epochs: epochs of a whole trial, >= 1.
        observer: told of every report.
    """

    def __init__(
        self,
        study: optuna.Study,
        room: PausedTrials,
        *,
        metric: str,
        max_epochs: int,
        observer: RunCallback,
    ) -> None:
        self._study = study
        self._room = room
        self._metric = metric
        self._max_epochs = max_epochs
        self._observer = observer

    def judge(self, trial: optuna.Trial, result: Mapping[str, Any], more_to_come: bool) -> Decision:
        """Record a report and decide on its trial; `more_to_come` if new trials are to run yet.

        A report that the trial made before an interruption is not recorded again, and only the last
        such is judged again: the earlier ones were, and it went on.

        Raises:
            InvalidInput: the report cannot be used.
        """
        report = read(result, self._metric, self._max_epochs)
        if report.epoch > self._max_epochs:
            return _STOPS
        if report.value is not None and math.isnan(report.value):
            why = f"{self._metric} must be a number, got nan at epoch {report.epoch:g}"
            return Decision(True, Ending(TrialState.FAIL, why))
        self._observer.reported(trial.number, report.epoch, result)
        before = known_of(trial)
        if not has_report(before, report.epoch, report.value is not None):
            _record(trial, report)
        elif max(reports_of(before)) > report.epoch:
            return _GOES_ON
        return _STOPS if report.epoch == self._max_epochs else self._decide(trial, more_to_come)

    def _decide(self, trial: optuna.Trial, more_to_come: bool) -> Decision:
        """Decide on a trial at its last report."""
        verdict = self._room.verdict(trial)
        if verdict is None:
            return self._ask_the_pruner(trial)
        if verdict.pause:
            return _STOPS if self._room.should_pause(trial.number, more_to_come) else _GOES_ON
        if verdict.audit and AUDIT not in known_of(trial).user_attrs:
            trial.set_user_attr(AUDIT, verdict.reason)
        return _pruned(verdict.reason) if verdict.prune else _GOES_ON

    def _ask_the_pruner(self, trial: optuna.Trial) -> Decision:
        """Decide as the study's pruner does, which may be any of Optuna's."""
        if not trial.should_prune():
            return _GOES_ON
        reason = known_of(trial).user_attrs.get(REASON)
        return _pruned(reason or explain(self._study, trial, self._metric, self._max_epochs))


def _pruned(reason: str) -> Decision:
    return Decision(True, Ending(TrialState.PRUNED, reason))


def _record(trial: optuna.Trial, report: Report) -> None:
    # The metric last: who finds it in the study finds its rotation and its test too.
    report_rotation(
        trial,
        report.epoch,
        report.distances,
        lr_progress=report.lr_progress,
        train_loss=report.train_loss,
        epoch_s=report.epoch_s,
    )
    report_test(trial, report.test)
    if report.value is not None:
        trial.report(report.value, int(report.epoch))


@dataclass(frozen=True)
class Suggestion:
    """A trial to run.

    Attributes:
        number: of the trial in the study.
        config: its whole config.
        checkpoint: what it continues from, relative to the trials' folder; None to begin.
        place: the path that holds the checkpoint, if a former driver kept it in another folder.
    """

    number: int
    config: dict[str, Any]
    checkpoint: str | None
    place: StoragePath | None = None


class TrialManager:
    """Suggests, judges and records the trials of one study.

    Args:
        study: the study; its pruner judges every report.
        space: what may be tried.
        metric: the key of the report to optimise, in the study's direction.
        num_trials: trials in all, those already in the study included, >= 1.
        max_epochs: epochs of a whole trial, >= 1.
        sampler: a name or an Optuna sampler.
        seed: of a named sampler.
        constants: merged into every config that does not set them.
        observer: told of every start, report and end.
        may_wait: whether trials can be paused at a checkpoint and go on later; needs a
            `RotationPruner`.
        start: what suggests the first trials; the sampler where there is none.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        *,
        metric: str,
        num_trials: int,
        max_epochs: int,
        sampler: str | BaseSampler = "tpe",
        seed: int = 0,
        constants: Mapping[str, Any] | None = None,
        observer: RunCallback | None = None,
        may_wait: bool = False,
        start: InitialTrials | None = None,
    ) -> None:
        self.study = study
        self.metric = metric
        self.max_epochs = max_epochs
        self.observer = observer or RunCallback()
        self.fatal: InvalidInput | None = None  # what the user must mend before the study goes on
        self.ended = 0  # trials that this process has brought to a result
        self._space = space
        self._constants = dict(constants or {})
        self._room = PausedTrials(study, is_open=may_wait)
        self._roster = TrialQueue(
            study,
            self._room,
            num_trials=num_trials,
            sampler=sampler,
            seed=seed,
            start=start,
            observer=self.observer,
        )
        self._judge = ReportHandler(
            study, self._room, metric=metric, max_epochs=max_epochs, observer=self.observer
        )
        self._running = self._roster.running
        self._ending: dict[int, Ending] = {}

    @property
    def num_trials(self) -> int:
        """Trials in all; fewer than were asked for once the sampler has tried everything."""
        return self._roster.num_trials

    @property
    def live(self) -> int:
        """How many trials have been suggested, and have neither ended nor paused."""
        return len(self._running)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to suggest."""
        return self._roster.exhausted

    @property
    def rungs(self) -> tuple[float, ...]:
        """The epochs at which a trial may pause."""
        return self._room.rungs(self.max_epochs)

    def recover(self) -> None:
        """Queue the trials that an earlier process left running or paused when it ended."""
        self._roster.recover()

    def release(self) -> None:
        """Let every trial that has not ended wait, to go on when the study is resumed."""
        self._roster.release()

    def ask(self) -> Suggestion | None:
        """Suggest what to run next; None when there is nothing to run, or nothing yet.

        When there are no new trials and none may go on, the paused ones are pruned. While the
        study's database does not answer there is nothing to run yet.

        Raises:
            InvalidInput: the search space cannot be drawn from.
        """
        try:
            while (trial := self._roster.next()) is not None:
                if (suggestion := self._start(trial)) is not None:
                    return suggestion
        except DatabaseUnavailable:
            return None
        for trial, reason in self._roster.unpromotable():
            self._end(trial, Ending(TrialState.PRUNED, reason))
        return None

    def listen(self) -> None:
        """Read which trials were enqueued from elsewhere, and show what is new of the database.

        Raises:
            NotStored: the study can no longer be written.
        """
        self._roster.sync()

    def _start(self, trial: optuna.Trial) -> Suggestion | None:
        """Draw a trial's parameters and have it run; None if they cannot be, of an advised one."""
        advised = is_advised(trial)
        try:
            with warnings.catch_warnings():
                if advised:  # it may lie outside of the space, and does so on purpose
                    warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)
                suggested = {**self._constants, **suggest(self._space, trial)}
        except InvalidInput as error:
            self._end(trial, Ending(TrialState.FAIL, str(error)))
            if advised:
                return None
            raise
        place = self._roster.start(trial)
        known = known_of(trial)
        config = whole_config(trial, known, suggested)
        self.observer.started(trial.number, {**trial.params, **read_config(known)})
        return Suggestion(trial.number, config, known.user_attrs.get(CHECKPOINT), place)

    def is_pausing(self, number: int) -> bool:
        """Whether a trial's checkpoint is to be written now, for it to go on from later."""
        return self._room.is_entering(number)

    def report(self, number: int, result: Mapping[str, Any]) -> bool:
        """Record a report; return whether the trial is to stop now.

        A report that cannot be used ends the whole study: see `fatal`.
        """
        self._roster.sync()
        try:
            decision = self._judge.judge(self._running[number], result, self._roster.more_to_come)
        except InvalidInput as error:
            self.fatal = error
            return True
        if decision.ending:
            self._ending[number] = decision.ending
        return decision.stops

    def finish(self, number: int, result: Mapping[str, Any]) -> None:
        """Record the end of a trial, whose last result Ray hands over only now if it was whole."""
        trial = self._running.get(number)
        if trial is None or self.fatal:
            return
        if self._room.is_entering(number):
            self._roster.pause(number)
            self.observer.paused(number, reached(trial)[0])
            return
        if says_anything(result) and number not in self._ending:
            if epoch_of(result, self.metric, self.max_epochs) > reached(trial)[0]:
                self.report(number, result)
            if self.fatal:
                return
        if not known_of(trial).intermediate_values:
            why = f"it ended without ever reporting {self.metric}"
            self._ending.setdefault(number, Ending(TrialState.FAIL, why))
        self._end(trial, self._ending.pop(number, Ending(TrialState.COMPLETE)))

    def fail(self, number: int, error: BaseException | None) -> None:
        """Record that a trial crashed. Unusable input ends the whole study: see `fatal`.

        In an advised trial, which may lie outside of the space, it ends that trial alone.
        """
        cause = getattr(error, "cause", None) or error
        trial = self._running.get(number)
        if isinstance(cause, InvalidInput) and not (trial and is_advised(trial)):
            self.fatal = cause
            return
        self.fail_with(number, _describe(cause))

    def fail_with(self, number: int, reason: str) -> None:
        """Record that a trial failed, with a reason."""
        if (trial := self._running.get(number)) is not None:
            self._end(trial, Ending(TrialState.FAIL, reason))

    def interrupt(self, number: int, why: str) -> None:
        """Take back a trial that lost its node: it is suggested again, to go on elsewhere.

        What it reported counts, and what was decided on it stands.
        """
        trial = self._running.get(number)
        if trial is None:
            return
        if number in self._ending:
            self._end(trial, self._ending.pop(number))
            return
        self._roster.interrupt(number)
        epochs = reached(trial)[0]
        self.observer.paused(number, epochs)
        self.observer.noted(f"trial {number} was interrupted at epoch {epochs:g}: {why}")

    def checkpointed(self, number: int, path: str) -> None:
        """Record a trial's newest checkpoint, relative to the trials' folder."""
        if number in self._running:
            self._running[number].set_user_attr(CHECKPOINT, path)

    def _end(self, trial: optuna.Trial, ending: Ending) -> None:
        state, reason = ending.state, ending.reason
        if reason and known_of(trial).user_attrs.get(REASON) != reason:
            trial.set_user_attr(REASON, reason)
        report_last_rotation(trial, known_of(trial))
        epoch, value = reached(trial)
        try:
            self.study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
        except RuntimeError as error:
            # A sampler that has tried everything (GridSampler) stops the study, which Optuna knows
            # only inside `optimize`; by then the trial's end is recorded.
            if "Study.stop" not in str(error):
                raise
            self._roster.stop_creating()
        self._roster.discard(trial.number)
        self.ended += state != TrialState.FAIL
        self.observer.finished(trial.number, STATES[state], value, epoch, reason)


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "it crashed without saying why"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
