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
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tuner.engine.callbacks import RunCallback
from tuner.engine.trial_error import TrialError
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
    ERROR,
    REASON,
    curve_of,
    has_report,
    read_config,
    record_report,
    report_last_rotation,
    reports_of,
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


# So many failures of one kind, and no other end of a trial, are no accident.
_MOST_ALIKE = 3


class FailureCounter:
    """Counts the failures of trials, and knows when all are of one kind.

    A lack of memory does not count, because it depends on the configuration.
    """

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}
        self._last = TrialError("")

    def are_alike(self, number: int, error: TrialError) -> bool:
        """Count a failure; return whether there are enough of them, all of one kind."""
        if "OutOfMemory" in error.line:
            return False
        self._kinds[number] = error.kind
        self._last = error
        return len(self._kinds) >= _MOST_ALIKE and len(set(self._kinds.values())) == 1

    def refusal(self, study: str, errors: Path | None) -> InvalidInput:
        """Return the error that stops the study."""
        where = ""
        if errors is not None and self._last.text:
            where = f"; the whole traceback is in {errors}"
        return InvalidInput(
            f"trials must not all fail, the first {len(self._kinds)} of {study!r} failed alike "
            f"({self._last.reason.removesuffix('.')}){where}; mend the code, then run the job "
            "again with --retry-failed (in Python retry_failed=True); resume would run the old code"
        )


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
        start: suggests the first trials; None leaves them to the sampler.
        errors: the folder for the tracebacks of failed trials; None to write none.

    Attributes:
        fatal: the error that the user must correct before the study can continue, or None.
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
        errors: Path | None = None,
    ) -> None:
        self.study = study
        self.metric = metric
        self.max_epochs = max_epochs
        self.observer = observer or RunCallback()
        self.fatal: InvalidInput | None = None
        self._failures = FailureCounter()
        self._errors = errors
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
            while self.fatal is None and (live := self._queue.next()) is not None:
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

        A result that cannot be used fails its trial. It stops the whole study (see `fatal`) if no
        trial has shown yet that the others would do better.

        Args:
            number: the number of the running trial.
            result: the result of the trainable, without Ray's own keys.
        """
        self._queue.sync()
        live = self._queue.running[number]
        try:
            live.decision = self._reports.handle(live, result, self._queue.more_to_come)
        except InvalidInput as error:
            missing = self.metric not in result
            if not (self._has_metric() if missing else self._has_reports()):
                self.fatal = error
                return _STOP
            live.failure = str(error)
            self._count_failure(number, TrialError(str(error)))
            live.decision = _STOP
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
        """Record that a trial crashed, and write its traceback to a file.

        Unusable input stops the whole study (see `fatal`) if no trial has reported anything: it is
        probably wrong for every trial. An advised trial may lie outside of the space, so its
        unusable input fails it alone. So does the third failure of one kind if no trial has ended
        in another way.
        """
        cause = getattr(error, "cause", None) or error
        live = self._queue.running.get(number)
        advised = live is not None and live.is_advised
        if isinstance(cause, InvalidInput) and not advised and not self._has_reports():
            self.fatal = cause
            return
        known = TrialError.of(error)
        if live is not None:
            self._keep_traceback(live, known)
        self.fail_with(number, known.reason)
        if not advised:
            self._count_failure(number, known)

    def _keep_traceback(self, live: LiveTrial, error: TrialError) -> None:
        """Write a traceback to a file, and name the file in the trial."""
        if not error.text or self._errors is None:
            return
        file = self._errors / f"trial-{live.number:05}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(error.text + "\n", errors="backslashreplace")
        live.trial.set_user_attr(ERROR, str(file.relative_to(self._errors.parent)))

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
            others = self.study.get_trials(deepcopy=False)[: trial.number]
            known = TrialError.of(error)
            self._keep_traceback(live, known)
            self._end(live, TrialState.FAIL, known.reason)
            if not advised and not any(other.params for other in others):
                raise
            if not advised:
                self._count_failure(trial.number, known)
            return None
        path = self._queue.start(live)
        stored = live.stored
        config = whole_config(trial, stored, suggested)
        self.observer.started(trial.number, {**trial.params, **read_config(stored)})
        return Suggestion(trial.number, config, stored.user_attrs.get(CHECKPOINT), path)

    def has_trained(self) -> bool:
        """Whether any trial of the study has ended, has reported or has a checkpoint."""
        return any(
            trial.state.is_finished() or CHECKPOINT in trial.user_attrs or reports_of(trial)
            for trial in self.study.get_trials(deepcopy=False)
        )

    def _has_reports(self) -> bool:
        return any(reports_of(trial) for trial in self.study.get_trials(deepcopy=False))

    def _has_metric(self) -> bool:
        return any(trial.intermediate_values for trial in self.study.get_trials(deepcopy=False))

    def _count_failure(self, number: int, error: TrialError) -> None:
        """Stop the study at the third failure of one kind, if no trial has ended in another way."""
        ended_well = (TrialState.COMPLETE, TrialState.PRUNED)
        if any(trial.state in ended_well for trial in self.study.get_trials(deepcopy=False)):
            return
        if self._failures.are_alike(number, error) and self.fatal is None:
            self.fatal = self._failures.refusal(self.study.study_name, self._errors)

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
