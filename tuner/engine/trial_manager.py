"""TrialManager: one Optuna study behind Ray Tune's searcher and scheduler.

Ray requests trials, passes on their results and reports their ends in three different calls. The
manager writes all of this into one study, in memory, before Ray continues. A result is parsed once,
into an `EpochReport`. The decision on it is made once too, as a `Decision`.
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
from tuner.engine.trial_queue import LiveTrial, TrialQueue, promotion_of
from tuner.errors import InvalidInput
from tuner.rotation import Action, Decision, EpochReport, Promotion, RotationCurve, Verdict
from tuner.rotation.report import epoch_of, is_report
from tuner.storage.database import DatabaseUnavailable
from tuner.storage.paths import CHECKPOINT, StoragePath
from tuner.study.initial_trials import InitialTrials
from tuner.study.load import STATES
from tuner.study.pruners import explain
from tuner.study.schema import (
    AUDIT,
    REASON,
    curve_of,
    has_report,
    read_config,
    record_report,
    report_last_rotation,
    whole_config,
)
from tuner.study.search_space import Space, suggest

_CONTINUE = Decision(Action.CONTINUE)
_STOP = Decision(Action.STOP)


class ReportHandler:
    """Parses the results of trials, records them and decides on each.

    Args:
        study: the study; its pruner decides if `promotion` is None.
        promotion: decides on the study's trials, or None.
        metric: the key of the report to optimise.
        max_epochs: epochs of a whole trial, >= 1.
        observer: receives every report.
    """

    def __init__(
        self,
        study: optuna.Study,
        promotion: Promotion | None,
        *,
        metric: str,
        max_epochs: int,
        observer: RunCallback,
    ) -> None:
        self._study = study
        self._promotion = promotion
        self._metric = metric
        self._max_epochs = max_epochs
        self._observer = observer

    def handle(self, live: LiveTrial, result: Mapping[str, Any], more_to_come: bool) -> Decision:
        """Record a result and decide on its trial.

        A trial that continues from a checkpoint repeats reports from before an interruption. They
        are not recorded again. Only the last of them is decided again.

        Args:
            live: the running trial.
            result: the result of the trainable.
            more_to_come: whether new trials will be created.

        Raises:
            InvalidInput: the report cannot be used.
        """
        report = EpochReport.from_result(result, self._metric, self._max_epochs)
        if report.epoch > self._max_epochs:
            return _STOP
        if report.metric is not None and math.isnan(report.metric):
            live.failure = f"{self._metric} must be a number, got nan at epoch {report.epoch:g}"
            return _STOP
        self._observer.reported(live.number, report)
        stored = live.stored
        is_new = not has_report(stored, report.epoch, report.metric is not None)
        if is_new:
            record_report(live.trial, report, stored)
        elif live.epochs > report.epoch:
            return _CONTINUE
        live.epochs = max(live.epochs, report.epoch)
        at_end = report.epoch == self._max_epochs
        if self._promotion is None:
            return _STOP if at_end else self._ask_pruner(live)
        curve = self._promotion.curve(live.number)
        if is_new:
            curve = _with_report(curve, report, live)
        decision = self._promotion.report(live.number, curve, more_to_come=more_to_come)
        if at_end:
            return _STOP
        if decision.verdict.audit and AUDIT not in live.stored.user_attrs:
            live.trial.set_user_attr(AUDIT, decision.verdict.reason)
        return decision

    def _ask_pruner(self, live: LiveTrial) -> Decision:
        """Decide by the study's pruner, which may be any pruner of Optuna."""
        if not live.trial.should_prune():
            return _CONTINUE
        reason = live.stored.user_attrs.get(REASON)
        reason = reason or explain(self._study, live.trial, self._metric, self._max_epochs)
        return Decision(Action.STOP, Verdict(prune=True, reason=reason))


def _with_report(curve: RotationCurve, report: EpochReport, live: LiveTrial) -> RotationCurve:
    """Return a trial's curve with a report that the study already holds.

    A report out of order, or a metric within an epoch, is read from the study.
    """
    in_order = not len(curve) or report.epoch > curve.epochs[-1]
    if in_order and (report.metric is None or report.epoch.is_integer()):
        return curve.with_report(report)
    return curve_of(live.stored, curve.max_epochs)


@dataclass(frozen=True)
class Suggestion:
    """A trial to run.

    Attributes:
        number: the number of the trial in the study.
        config: the whole config of the trial.
        checkpoint: the checkpoint to continue from, relative to the trials' folder; None for a
            trial that begins.
        path: the folder with the checkpoint; None if the study does not name it.
    """

    number: int
    config: dict[str, Any]
    checkpoint: str | None
    path: StoragePath | None = None


class TrialManager:
    """Suggests the trials of one study, decides on their reports and records them.

    Args:
        study: the study; its pruner decides on every report.
        space: the search space.
        metric: the key of the report to optimise, in the study's direction.
        num_trials: trials in all, including the trials already in the study, >= 1.
        max_epochs: epochs of a whole trial, >= 1.
        sampler: a name or an Optuna sampler.
        seed: the seed of a named sampler.
        constants: config entries of every trial; the config of a trial replaces them key by key.
        observer: receives every start, report and end.
        may_pause: whether trials can pause at a checkpoint; needs a `RotationPruner`.
        start: suggests the first trials; None if the sampler suggests them.

    Attributes:
        fatal: the error that the user must correct before the study can continue, or None.
        ended: the number of trials that this process has completed or pruned.
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
        may_pause: bool = False,
        start: InitialTrials | None = None,
    ) -> None:
        self.study = study
        self.metric = metric
        self.max_epochs = max_epochs
        self.observer = observer or RunCallback()
        self.fatal: InvalidInput | None = None
        self.ended = 0
        self._space = space
        self._constants = dict(constants or {})
        self._may_pause = may_pause
        self._promotion = promotion_of(study, max_epochs, may_pause=may_pause)
        self._queue = TrialQueue(
            study,
            self._promotion,
            num_trials=num_trials,
            sampler=sampler,
            seed=seed,
            start=start,
            observer=self.observer,
        )
        self._reports = ReportHandler(
            study,
            self._promotion,
            metric=metric,
            max_epochs=max_epochs,
            observer=self.observer,
        )

    @property
    def num_trials(self) -> int:
        """Trials in all; fewer than in the job after the sampler has tried the whole space."""
        return self._queue.num_trials

    @property
    def num_running(self) -> int:
        """The number of running trials: suggested, and neither ended nor paused."""
        return len(self._queue.running)

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to suggest."""
        return self._queue.exhausted

    @property
    def rungs(self) -> tuple[float, ...]:
        """The epochs at which a trial may pause."""
        if self._promotion is None or not self._may_pause:
            return ()
        return self._promotion.state.config.rungs(self.max_epochs)

    def recover(self) -> None:
        """Queue the trials that an earlier process left running or paused when it ended."""
        self._queue.recover()

    def release(self) -> None:
        """Mark every trial that has not ended as waiting, so that it can be resumed."""
        self._queue.release()

    def ask(self) -> Suggestion | None:
        """Suggest the trial to run next; None if there is no such trial now.

        If there are no new trials and no paused trial can continue, the paused trials are pruned.
        While the study's database does not answer, there is no trial to run.

        Raises:
            InvalidInput: the sampler cannot draw from the search space.
        """
        try:
            while (live := self._queue.next()) is not None:
                if (suggestion := self._start(live)) is not None:
                    return suggestion
        except DatabaseUnavailable:
            return None
        for live, reason in self._queue.unpromotable():
            self._end(live, TrialState.PRUNED, reason)
        return None

    def sync(self) -> None:
        """Read the trials that other processes have enqueued, and show the lines of the database.

        Raises:
            NotStored: the study can no longer be written.
        """
        self._queue.sync()

    def report(self, number: int, result: Mapping[str, Any]) -> Decision:
        """Record a result and return the decision on its trial.

        A result that cannot be used stops the whole study: see `fatal`.

        Args:
            number: the number of the running trial.
            result: the result of the trainable, without Ray's own keys.
        """
        self._queue.sync()
        live = self._queue.running[number]
        try:
            live.decision = self._reports.handle(live, result, self._queue.more_to_come)
        except InvalidInput as error:
            self.fatal = error
            return _STOP
        return live.decision

    def finish(self, number: int, result: Mapping[str, Any]) -> None:
        """Record that Ray has stopped a trial: it pauses or ends, by the decision on it.

        Args:
            number: the number of the trial.
            result: the last result of the trial. If the trial ends by itself, Ray passes on this
                result only here.
        """
        live = self._queue.running.get(number)
        if live is None or self.fatal:
            return
        action = live.decision.action if live.decision else Action.CONTINUE
        if action is Action.PAUSE:
            self._queue.pause(number)
            self.observer.paused(number, live.epochs)
            return
        if action is Action.CONTINUE and self._is_new(live, result):
            self.report(number, result)
            if self.fatal:
                return
        self._end(live, *_outcome(live, self.metric))

    def fail(self, number: int, error: BaseException | None) -> None:
        """Record that a trial crashed. Unusable input stops the whole study: see `fatal`.

        An advised trial may be outside the space, so its unusable input fails only this trial.
        """
        cause = getattr(error, "cause", None) or error
        live = self._queue.running.get(number)
        if isinstance(cause, InvalidInput) and not (live and live.is_advised):
            self.fatal = cause
            return
        self.fail_with(number, _describe(cause))

    def fail_with(self, number: int, reason: str) -> None:
        """Record that a trial failed, with a reason."""
        if (live := self._queue.running.get(number)) is not None:
            self._end(live, TrialState.FAIL, reason)

    def interrupt(self, number: int, why: str) -> None:
        """Record that a trial lost its node; it is suggested again, to continue on another node.

        Its reports remain, and so does the decision on its last report.
        """
        live = self._queue.running.get(number)
        if live is None:
            return
        decision = live.decision or _CONTINUE
        if live.failure or decision.verdict.prune:
            self._end(live, *_outcome(live, self.metric))
            return
        if decision.action is Action.PAUSE:
            self._queue.pause(number)
        else:
            self._queue.interrupt(number)
        self.observer.paused(number, live.epochs)
        self.observer.noted(f"trial {number} was interrupted at epoch {live.epochs:g}: {why}")

    def checkpointed(self, number: int, path: str) -> None:
        """Record a trial's newest checkpoint, relative to the trials' folder."""
        if (live := self._queue.running.get(number)) is not None:
            live.trial.set_user_attr(CHECKPOINT, path)

    def _start(self, live: LiveTrial) -> Suggestion | None:
        """Draw a trial's parameters and start it.

        Returns: None if the parameters of an advised trial cannot be drawn.
        """
        trial, advised = live.trial, live.is_advised
        try:
            with warnings.catch_warnings():
                if advised:  # it may be outside the space on purpose
                    warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)
                suggested = {**self._constants, **suggest(self._space, trial)}
        except InvalidInput as error:
            self._end(live, TrialState.FAIL, str(error))
            if advised:
                return None
            raise
        path = self._queue.start(live)
        stored = live.stored
        config = whole_config(trial, stored, suggested)
        self.observer.started(trial.number, {**trial.params, **read_config(stored)})
        return Suggestion(trial.number, config, stored.user_attrs.get(CHECKPOINT), path)

    def _is_new(self, live: LiveTrial, result: Mapping[str, Any]) -> bool:
        """Whether a result reports an epoch that the trial has not reported yet."""
        return is_report(result) and epoch_of(result, self.metric, self.max_epochs) > live.epochs

    def _end(self, live: LiveTrial, state: TrialState, reason: str) -> None:
        stored = live.stored
        if reason and stored.user_attrs.get(REASON) != reason:
            live.trial.set_user_attr(REASON, reason)
        report_last_rotation(live.trial, stored)
        step = stored.last_step
        value = math.nan if step is None else stored.intermediate_values[step]
        try:
            self.study.tell(
                live.trial, value if state == TrialState.COMPLETE else None, state=state
            )
        except RuntimeError as error:
            # GridSampler stops the study after the whole grid. Optuna allows this only inside
            # `optimize`, but it has recorded the trial's end before this error.
            if "Study.stop" not in str(error):
                raise
            self._queue.stop_creating()
        self._queue.discard(live.number, failed=state == TrialState.FAIL)
        self.ended += state != TrialState.FAIL
        self.observer.finished(live.number, STATES[state], value, live.epochs, reason)


def _outcome(live: LiveTrial, metric: str) -> tuple[TrialState, str]:
    """Return how a trial ends after the decision on its last report, and why."""
    if live.failure:
        return TrialState.FAIL, live.failure
    if live.decision and live.decision.verdict.prune:
        return TrialState.PRUNED, live.decision.verdict.reason
    if not live.stored.intermediate_values:
        return TrialState.FAIL, f"it ended without a report of {metric}"
    return TrialState.COMPLETE, ""


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "it crashed without an error message"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
