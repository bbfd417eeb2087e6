"""The one Optuna study behind Ray's searcher and Ray's scheduler.

Ray asks for trials in one place, hands over results in another and tells of their end in a third.
Here they meet: what the searcher suggested, what the trial reported, what the pruner said of it and
how it ended all go into one study, in memory, before Ray goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS, DONE, SHOULD_CHECKPOINT

from tuner.engine.observer import Observer
from tuner.errors import InvalidInput
from tuner.study.pruners import explain
from tuner.study.record import CHECKPOINT, REASON, has_report, report_rotation
from tuner.study.result import NUM_TRIALS, STATES
from tuner.study.samplers import sampler_for_trial
from tuner.study.space import Space, suggest

_ROTATION = "rotation/"
# What Ray adds to every result, and what a report carries besides metrics.
_OWN_KEYS = ("epoch", "progress", "lr_progress", "epoch_s", "rotation_min", "rotation_mean")
_NOT_METRICS = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, *_OWN_KEYS, DONE, SHOULD_CHECKPOINT}


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number in the study, its whole config, and the checkpoint (relative to
    the trials' folder) it goes on from, if it was interrupted."""

    number: int
    config: dict[str, Any]
    checkpoint: str | None


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
    ) -> None:
        self.study = study
        self.metric = metric
        self.num_trials = num_trials
        self.max_epochs = max_epochs
        self.fatal: InvalidInput | None = None  # what the user must mend before the study goes on
        self.ended = 0  # trials that this process has brought to a result
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._constants = dict(constants or {})
        self.observer = observer or Observer()
        self._made = len(study.get_trials(deepcopy=False))
        self._waiting = self._numbers(TrialState.WAITING)
        self._running: dict[int, optuna.Trial] = {}
        self._last: dict[int, tuple[float, float]] = {}  # number -> (epoch, metric)
        self._ending: dict[int, tuple[TrialState, str]] = {}

    @property
    def live(self) -> int:
        """How many trials have been suggested and have not ended."""
        return len(self._running)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to suggest."""
        return not self._waiting and self._made >= self.num_trials

    def recover(self) -> None:
        """Take up the trials that another process left running when it died.

        Only for the one process that runs the study.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._waiting = self._numbers(TrialState.WAITING)

    def release(self) -> None:
        """Let every trial that has not ended wait, to go on when the study is resumed."""
        for trial in self._running.values():
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._running.clear()

    def ask(self) -> Suggestion | None:
        """Suggest the next trial: interrupted ones first, then new ones; None when all are made.

        Raises:
            InvalidInput: the search space cannot be drawn from.
        """
        if self.exhausted:
            return None
        if self._waiting:
            number = self._waiting.pop(0)
        else:
            number, self._made = self._made, self._made + 1
        self.study.sampler = sampler_for_trial(self._sampler, self._seed, number)
        trial = self.study.ask()
        try:
            config = {**self._constants, **suggest(self._space, trial)}
        except InvalidInput as error:
            self._end(trial, TrialState.FAIL, str(error))
            raise
        self._running[trial.number] = trial
        self.observer.started(trial.number, trial.params)
        return Suggestion(trial.number, config, trial.user_attrs.get(CHECKPOINT))

    def report(self, number: int, result: Mapping[str, Any]) -> bool:
        """Record a report; return whether the trial is to stop now.

        A report that the trial made before an interruption is not recorded again, and only the last
        such is judged again: the earlier ones were, and it went on. A report that cannot be used
        ends the whole study: see `fatal`.
        """
        try:
            return self._report(self._running[number], result)
        except InvalidInput as error:
            self.fatal = error
            return True

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> bool:
        epoch = self._epoch(result)
        value = self._value(result, epoch)
        if epoch > self.max_epochs:
            return True
        if value is not None and math.isnan(value):
            why = f"{self.metric} must be a number, got nan at epoch {epoch:g}"
            self._ending[trial.number] = (TrialState.FAIL, why)
            return True
        if value is not None:
            self._last[trial.number] = (epoch, value)
        self.observer.reported(trial.number, epoch, result)
        before = self._frozen(trial)
        if not has_report(before, epoch, value is not None):
            self._record(trial, epoch, value, result)
        elif any(later > epoch for later in before.intermediate_values):
            return False
        if epoch == self.max_epochs:
            return True
        if not trial.should_prune():
            return False
        reason = self._frozen(trial).user_attrs.get(REASON)
        if reason is None:
            reason = explain(self.study, trial, self.metric, self.max_epochs)
        self._ending[trial.number] = (TrialState.PRUNED, reason)
        return True

    def finish(self, number: int, result: Mapping[str, Any]) -> None:
        """Record the end of a trial, whose last result Ray hands over only now if it was whole."""
        trial = self._running.get(number)
        if trial is None or self.fatal:
            return
        reported = any(_is_reported(key) for key in result)
        if reported and number not in self._ending:
            if self._epoch(result) > self._last.get(number, (0.0, 0.0))[0]:
                self.report(number, result)
            if self.fatal:
                return
        if number not in self._last:
            self._ending.setdefault(
                number, (TrialState.FAIL, f"it ended without ever reporting {self.metric}")
            )
        state, reason = self._ending.pop(number, (TrialState.COMPLETE, ""))
        self._end(trial, state, reason)

    def fail(self, number: int, error: BaseException | None) -> None:
        """Record that a trial crashed. Unusable input ends the whole study: see `fatal`."""
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, InvalidInput):
            self.fatal = cause
            return
        trial = self._running.get(number)
        if trial is not None:
            self._end(trial, TrialState.FAIL, _describe(cause))

    def checkpointed(self, number: int, path: str) -> None:
        """Record a trial's newest checkpoint, relative to the trials' folder."""
        if number in self._running:
            self._running[number].set_user_attr(CHECKPOINT, path)

    def _end(self, trial: optuna.Trial, state: TrialState, reason: str) -> None:
        if reason and self._frozen(trial).user_attrs.get(REASON) != reason:
            trial.set_user_attr(REASON, reason)
        epoch, value = self._last.pop(trial.number, (0.0, math.nan))
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
        self.ended += state != TrialState.FAIL
        self.observer.finished(trial.number, STATES[state], value, epoch, reason)

    def _record(
        self, trial: optuna.Trial, epoch: float, value: float | None, result: Mapping[str, Any]
    ) -> None:
        # The rotation first: who finds the metric in the study finds its rotation too.
        report_rotation(
            trial,
            epoch,
            {
                key.removeprefix(_ROTATION): float(distance)
                for key, distance in result.items()
                if key.startswith(_ROTATION)
            },
            lr_progress=float(result.get("lr_progress", math.nan)),
            train_loss=_loss(result),
            epoch_s=float(result.get("epoch_s", result.get("time_this_iter_s", math.nan))),
        )
        if value is not None:
            trial.report(value, int(epoch))

    def _epoch(self, result: Mapping[str, Any]) -> float:
        """Epochs finished, fractions included; a trainable that does not say counts its reports."""
        if "progress" in result and self.metric not in result:
            return round(float(result["progress"]) * self.max_epochs, 6)
        return float(result.get("epoch", result.get("training_iteration", 1)))

    def _value(self, result: Mapping[str, Any], epoch: float) -> float | None:
        """The metric of a report; None for one within an epoch, which has none."""
        if self.metric not in result:
            if not epoch.is_integer():
                return None
            reported = sorted(key for key in result if _is_reported(key)) or ["nothing"]
            raise InvalidInput(
                f"every epoch must report the metric, {self.metric!r} was not among: "
                f"{', '.join(reported)}; name one of these as metric, or report it"
            )
        try:
            return float(result[self.metric])
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"the metric must be a number, {self.metric!r} was {result[self.metric]!r}; "
                "report a float"
            ) from error

    def _numbers(self, state: TrialState) -> list[int]:
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=(state,))]

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)


def _is_reported(key: str) -> bool:
    return key not in _NOT_METRICS and not key.startswith((_ROTATION, "config/"))


def _loss(result: Mapping[str, Any]) -> float:
    """The training loss: NaN if not reported, infinite if it was reported as not a number."""
    loss = float(result.get("train_loss", math.nan))
    return math.inf if "train_loss" in result and math.isnan(loss) else loss


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "it crashed without saying why"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
