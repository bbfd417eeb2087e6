"""The one Optuna study behind Ray's searcher and Ray's scheduler.

Ray asks for trials in one place, hands over results in another and tells of their end in a third.
Here they meet: what the searcher suggested, what the trial reported, what the pruner said of it and
how it ended all go into one study, in memory, before Ray goes on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.engine.company import Company
from tuner.engine.observer import Observer
from tuner.engine.reading import Report, epoch_of, read, says_anything
from tuner.engine.waiting import WaitingRoom
from tuner.errors import InvalidInput
from tuner.study.load import FIXED_PARAMS, NUM_TRIALS, STATES, read_trial
from tuner.study.places import Place
from tuner.study.pruners import explain
from tuner.study.record import (
    ADVICE,
    AUDIT,
    CHECKPOINT,
    REASON,
    START,
    has_report,
    report_last_rotation,
    report_rotation,
    report_test,
    reports_of,
)
from tuner.study.samplers import PausedAsPruned, sampler_for_trial
from tuner.study.space import Space, suggest
from tuner.study.start import RotationStart


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number in the study, its whole config, and the checkpoint (relative to
    the trials' folder) it goes on from, if it was interrupted or has waited. That is in another
    place than this study's folder if another driver ran it there."""

    number: int
    config: dict[str, Any]
    checkpoint: str | None
    place: Place | None = None


class StudyBridge:
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
        observer: Observer | None = None,
        may_wait: bool = False,
        start: RotationStart | None = None,
    ) -> None:
        self.study = study
        self.metric = metric
        self.num_trials = num_trials
        self.max_epochs = max_epochs
        self.fatal: InvalidInput | None = None  # what the user must mend before the study goes on
        self.ended = 0  # trials that this process has brought to a result
        self._space = space
        self._sampler = sampler
        self._start_with = start
        self._seed = seed
        self._constants = dict(constants or {})
        self.observer = observer or Observer()
        self._room = WaitingRoom(study, is_open=may_wait)
        self._company = Company(study)
        self._made = len(study.get_trials(deepcopy=False))
        self._interrupted: list[optuna.Trial] = []
        self._running: dict[int, optuna.Trial] = {}
        self._ending: dict[int, tuple[TrialState, str]] = {}

    @property
    def live(self) -> int:
        """How many trials have been suggested, and have neither ended nor paused."""
        return len(self._running)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to suggest."""
        waits = self._interrupted or self._room or self._company.has_trials
        return not waits and not self._more_to_come

    @property
    def rungs(self) -> tuple[float, ...]:
        """The epochs at which a trial may pause."""
        return self._room.rungs(self.max_epochs)

    @property
    def _more_to_come(self) -> bool:
        return self._made < self.num_trials

    def recover(self) -> None:
        """Take up the trials that another process left running or paused when it ended.

        Only for the one process that runs the study, or that runs it from its folder.
        """
        for trial_id in self._company.left():
            trial = self._taken(trial_id)
            if self._waits(trial):
                self._enter(trial)
            else:
                self._interrupted.append(trial)

    def release(self) -> None:
        """Let every trial that has not ended wait, to go on when the study is resumed."""
        for trial in (*self._running.values(), *self._room.empty(), *self._interrupted):
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._running.clear()
        self._interrupted.clear()

    def ask(self) -> Suggestion | None:
        """Suggest what to run next; None when there is nothing to run, or nothing yet.

        Interrupted trials come first, then paused ones that may go on, then new ones. When there
        are no new ones and none may go on, the paused ones are pruned. As long as others run trials
        there may be something later: those of a driver that dies are taken up.

        Raises:
            InvalidInput: the search space cannot be drawn from.
        """
        self._hear()
        if self._interrupted:
            return self._start(self._interrupted.pop(0))
        if (trial := self._claimed()) is not None:
            return self._start(trial)
        if (trial := self._room.let_go(self._more_to_come)) is not None:
            return self._start(trial)
        if self._more_to_come:
            trial = self._new()
            return self.ask() if trial is None else self._start(trial)
        if self._running or self._company.busy:
            return None
        if self._room and self._hear(now=True):
            return self.ask()
        for trial, reason in self._room.close():
            self._end(trial, TrialState.PRUNED, reason)
        return None

    def _hear(self, *, now: bool = False) -> bool:
        """Take in what others have done; return whether the study is another than before."""
        news = self._company.news(now=now)
        for trial in news.ended:
            self.observer.ended_elsewhere(read_trial(trial, self.max_epochs, None))
        for line in news.lines:
            self.observer.noted(line)
        if news.changed:
            self._made = len(self.study.get_trials(deepcopy=False))
        return news.changed

    def _claimed(self) -> optuna.Trial | None:
        """A trial that nobody runs any more, or that was enqueued; taken up, to be run now."""
        while (trial_id := self._company.claim()) is not None:
            trial = self._taken(trial_id)
            if not self._waits(trial):
                return trial
            self._enter(trial)
        return None

    def _new(self) -> optuna.Trial | None:
        """A new trial; None if others have made the last."""
        trial_id = self._company.create(self.num_trials)
        if trial_id is None:
            self._hear()
            return None
        first = self._start_with and self._start_with.next(self.study.get_trials(deepcopy=False))
        if first:
            storage = self.study._storage
            storage.set_trial_system_attr(trial_id, FIXED_PARAMS, first.params)
            storage.set_trial_user_attr(trial_id, START, first.why)
        trial = self._taken(trial_id)
        self._made = max(self._made, trial.number + 1)
        return trial

    def _taken(self, trial_id: int) -> optuna.Trial:
        """A trial of this process, whose parameters are drawn as they are for its number."""
        number = self.study._storage.get_trial_number_from_id(trial_id)
        sampler = sampler_for_trial(self._sampler, self._seed, number)
        paused = {*self._room, *self._company.paused}
        self.study.sampler = PausedAsPruned(sampler, paused) if paused else sampler
        self.study._thread_local.cached_all_trials = None  # as `Study.ask` does
        return optuna.Trial(self.study, trial_id)

    def _waits(self, trial: optuna.Trial) -> bool:
        """Whether a trial that is taken up has to wait for its peers."""
        verdict = self._room.verdict(trial)
        return verdict is not None and verdict.wait

    def _enter(self, trial: optuna.Trial) -> None:
        self._room.enter(trial)
        self._company.mark(trial, paused=True)

    def _start(self, trial: optuna.Trial) -> Suggestion | None:
        advised = self._is_advised(trial)
        try:
            with warnings.catch_warnings():
                if advised:  # it may lie outside of the space, and does so on purpose
                    warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)
                config = {**self._constants, **suggest(self._space, trial)}
        except InvalidInput as error:
            self._end(trial, TrialState.FAIL, str(error))
            if advised:
                return self.ask()
            raise
        self._running[trial.number] = trial
        self._company.mark(trial, paused=False)
        self.observer.started(trial.number, trial.params)
        frozen = self._frozen(trial)
        checkpoint = frozen.user_attrs.get(CHECKPOINT)
        return Suggestion(trial.number, config, checkpoint, self._company.place_of(frozen))

    def is_pausing(self, number: int) -> bool:
        """Whether a trial's checkpoint is to be written now, for it to go on from later."""
        return self._room.is_entering(number)

    def report(self, number: int, result: Mapping[str, Any]) -> bool:
        """Record a report; return whether the trial is to stop now.

        A report that the trial made before an interruption is not recorded again, and only the last
        such is judged again: the earlier ones were, and it went on. A report that cannot be used
        ends the whole study: see `fatal`.
        """
        self._hear()
        try:
            return self._report(self._running[number], result)
        except InvalidInput as error:
            self.fatal = error
            return True

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> bool:
        report = read(result, self.metric, self.max_epochs)
        if report.epoch > self.max_epochs:
            return True
        if report.value is not None and math.isnan(report.value):
            why = f"{self.metric} must be a number, got nan at epoch {report.epoch:g}"
            self._ending[trial.number] = (TrialState.FAIL, why)
            return True
        self.observer.reported(trial.number, report.epoch, result)
        before = self._frozen(trial)
        if not has_report(before, report.epoch, report.value is not None):
            _record(trial, report)
        elif max(reports_of(before)) > report.epoch:
            return False
        return report.epoch == self.max_epochs or self._stops(trial)

    def _stops(self, trial: optuna.Trial) -> bool:
        """Whether a trial stops at its last report: to wait for its peers, or pruned."""
        verdict = self._room.verdict(trial)
        if verdict is None:
            if not trial.should_prune():
                return False
            reason = self._frozen(trial).user_attrs.get(REASON)
            reason = reason or explain(self.study, trial, self.metric, self.max_epochs)
        elif verdict.wait:
            return self._room.keeps(trial.number, self._more_to_come)
        else:
            if verdict.audit and AUDIT not in self._frozen(trial).user_attrs:
                trial.set_user_attr(AUDIT, verdict.reason)
            if not verdict.prune:
                return False
            reason = verdict.reason
        self._ending[trial.number] = (TrialState.PRUNED, reason)
        return True

    def finish(self, number: int, result: Mapping[str, Any]) -> None:
        """Record the end of a trial, whose last result Ray hands over only now if it was whole."""
        trial = self._running.get(number)
        if trial is None or self.fatal:
            return
        if self._room.is_entering(number):
            self._enter(self._running.pop(number))
            self.observer.paused(number, self._reached(trial)[0])
            return
        if says_anything(result) and number not in self._ending:
            if epoch_of(result, self.metric, self.max_epochs) > self._reached(trial)[0]:
                self.report(number, result)
            if self.fatal:
                return
        if not self._frozen(trial).intermediate_values:
            why = f"it ended without ever reporting {self.metric}"
            self._ending.setdefault(number, (TrialState.FAIL, why))
        state, reason = self._ending.pop(number, (TrialState.COMPLETE, ""))
        self._end(trial, state, reason)

    def fail(self, number: int, error: BaseException | None) -> None:
        """Record that a trial crashed. Unusable input ends the whole study: see `fatal`.

        In an advised trial, which may lie outside of the space, it ends that trial alone.
        """
        cause = getattr(error, "cause", None) or error
        trial = self._running.get(number)
        if isinstance(cause, InvalidInput) and not (trial and self._is_advised(trial)):
            self.fatal = cause
            return
        self.fail_with(number, _describe(cause))

    def fail_with(self, number: int, reason: str) -> None:
        """Record that a trial failed, with a reason."""
        if (trial := self._running.get(number)) is not None:
            self._end(trial, TrialState.FAIL, reason)

    def interrupt(self, number: int, why: str) -> None:
        """Take back a trial that lost its node: it is suggested again, to go on elsewhere.

        What it reported counts, and what was decided on it stands.
        """
        trial = self._running.get(number)
        if trial is None:
            return
        if number in self._ending:
            self._end(trial, *self._ending.pop(number))
            return
        if self._room.is_entering(number):
            self._enter(self._running.pop(number))
        else:
            self._interrupted.append(self._running.pop(number))
        epochs = self._reached(trial)[0]
        self.observer.paused(number, epochs)
        self.observer.noted(f"trial {number} was interrupted at epoch {epochs:g}: {why}")

    def checkpointed(self, number: int, path: str) -> None:
        """Record a trial's newest checkpoint, relative to the trials' folder."""
        if number in self._running:
            self._running[number].set_user_attr(CHECKPOINT, path)

    def _end(self, trial: optuna.Trial, state: TrialState, reason: str) -> None:
        if reason and self._frozen(trial).user_attrs.get(REASON) != reason:
            trial.set_user_attr(REASON, reason)
        report_last_rotation(trial, self._frozen(trial))
        epoch, value = self._reached(trial)
        try:
            self.study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
        except RuntimeError as error:
            # A sampler that has tried everything (GridSampler) stops the study, which Optuna knows
            # only inside `optimize`; by then the trial's end is recorded.
            if "Study.stop" not in str(error):
                raise
            self.num_trials = self._made
            self.study.set_user_attr(NUM_TRIALS, self._made)
        self._running.pop(trial.number, None)
        self._room.turn_away(trial.number)
        self.ended += state != TrialState.FAIL
        self.observer.finished(trial.number, STATES[state], value, epoch, reason)

    def _reached(self, trial: optuna.Trial) -> tuple[float, float]:
        """The epochs that a trial has reported, and its last metric; NaN before the first."""
        frozen = self._frozen(trial)
        step = frozen.last_step
        value = math.nan if step is None else frozen.intermediate_values[step]
        return max(reports_of(frozen), default=0.0), value

    def _is_advised(self, trial: optuna.Trial) -> bool:
        return ADVICE in self._frozen(trial).user_attrs

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)


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


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "it crashed without saying why"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
