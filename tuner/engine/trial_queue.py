"""TrialQueue: the trials of a study that run, are paused or are still to be created."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.engine.callbacks import RunCallback
from tuner.rotation import Decision, Promotion
from tuner.storage.lease import PAUSED
from tuner.storage.optuna_internals import (
    storage_of,
    stored_trial,
    study_id_of,
    trial_id_of,
    trial_to_run,
)
from tuner.storage.paths import StoragePath
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.initial_trials import InitialTrials
from tuner.study.load import FIXED_PARAMS, NUM_TRIALS, CheckpointPaths
from tuner.study.pruners import MAX_EPOCHS, RotationPruner
from tuner.study.samplers import sampler_for_trial
from tuner.study.schema import ADVICE, AUDIT, START, curve_of, reports_of


@dataclass
class LiveTrial:
    """A trial that has not ended: it runs, is paused or was interrupted.

    Attributes:
        trial: Optuna's running trial.
        epochs: the epochs that it has reported, >= 0.
        decision: the decision on its last report since its start; None before its first report.
        failure: why it failed; empty if it did not fail.
    """

    trial: optuna.Trial
    epochs: float = 0.0
    decision: Decision | None = None
    failure: str = ""

    @property
    def number(self) -> int:
        """The number of the trial in the study."""
        return self.trial.number

    @property
    def stored(self) -> FrozenTrial:
        """The current state of the trial in the study; not a copy."""
        return stored_trial(self.trial)

    @property
    def is_advised(self) -> bool:
        """Whether the trial tests an advice; then it may be outside the space."""
        return ADVICE in self.stored.user_attrs


def promotion_of(study: optuna.Study, max_epochs: int, *, may_pause: bool) -> Promotion | None:
    """Return the promotion of a study's trials; None if its pruner is not a `RotationPruner`.

    Args:
        study: the study; new trials are compared with the trials that it holds.
        max_epochs: epochs of a whole trial, for a pruner and a study without this number.
        may_pause: whether trials can pause at a checkpoint.
    """
    pruner = study.pruner
    if not isinstance(pruner, RotationPruner):
        return None
    max_epochs = pruner.max_epochs or study.user_attrs.get(MAX_EPOCHS, max_epochs)
    promotion = Promotion(pruner.config_for(study), max_epochs, may_pause=may_pause)
    promotion.load(
        {
            trial.number: curve_of(trial, max_epochs)
            for trial in study.get_trials(deepcopy=False)
            if trial.state != TrialState.FAIL
        }
    )
    return promotion


class TrialQueue:
    """Keeps the running, paused and interrupted trials, and creates new trials.

    Args:
        study: the study.
        promotion: decides on the trials; None if trials never pause.
        num_trials: trials in all, including the trials already in the study, >= 1.
        sampler: a name or an Optuna sampler.
        seed: the seed of a named sampler.
        start: suggests the first trials; None if the sampler suggests them.
        observer: receives the lines about the database.

    Attributes:
        running: the trials that run, by number.
    """

    def __init__(
        self,
        study: optuna.Study,
        promotion: Promotion | None,
        *,
        num_trials: int,
        sampler: str | BaseSampler,
        seed: int,
        start: InitialTrials | None,
        observer: RunCallback,
    ) -> None:
        self.num_trials = num_trials
        self.running: dict[int, LiveTrial] = {}
        self._study = study
        self._promotion = promotion
        self._storage = storage = storage_of(study)
        self._database = storage if isinstance(storage, WriteBehindDatabase) else None
        self._sampler = sampler
        self._seed = seed
        self._start_with = start
        self._observer = observer
        self._made = len(study.get_trials(deepcopy=False))
        self._paused: dict[int, LiveTrial] = {}
        self._interrupted: list[LiveTrial] = []
        self._enqueued: list[int] = []  # ids

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to start or to continue."""
        left = self._interrupted or self._enqueued or self._paused or self.more_to_come
        return not left

    @property
    def more_to_come(self) -> bool:
        """Whether new trials will be created."""
        return self._made < self.num_trials

    def recover(self) -> None:
        """Queue the trials that an earlier process left running or paused when it ended."""
        for trial_id in self._left():
            live = self._taken(trial_id)
            if self._promotion and self._promotion.recover(live.number):
                self._keep(live)
            else:
                self._interrupted.append(live)

    def release(self) -> None:
        """Mark every trial that has not ended as waiting, so that it can be resumed."""
        for live in (*self.running.values(), *self._paused.values(), *self._interrupted):
            self._storage.set_trial_state_values(trial_id_of(live.trial), TrialState.WAITING)
        self.running.clear()
        self._paused.clear()
        self._interrupted.clear()

    def sync(self) -> None:
        """Read the trials that other processes have enqueued, and show the lines of the database.

        Raises:
            NotStored: the study can no longer be written.
            LeaseLost: another process drives the study now.
        """
        if self._database is None:
            return
        delta = self._database.refresh()
        for line in delta.lines:
            self._observer.noted(line)
        if delta.enqueued:
            self._enqueued += delta.enqueued
            self._made = len(self._study.get_trials(deepcopy=False))

    def next(self) -> LiveTrial | None:
        """Return the trial to run next; None if there is no such trial now.

        The order is: interrupted trials, enqueued trials, promotable paused trials, new trials.

        Raises:
            DatabaseUnavailable: the study's database does not answer now; it may answer later.
        """
        self.sync()
        if self._interrupted:
            return self._interrupted.pop(0)
        if self._enqueued:
            return self._claimed(self._enqueued.pop(0))
        if (live := self._promoted()) is not None:
            return live
        return self._new() if self.more_to_come else None

    def unpromotable(self) -> Iterator[tuple[LiveTrial, str]]:
        """Yield the paused trials, each with the reason to prune it.

        It yields none while a trial runs. Call it only if `next` has returned None: then no paused
        trial can continue any more.
        """
        if not self.running and self._promotion:
            for number, reason in self._promotion.pop_unpromotable():
                yield self._paused.pop(number), reason

    def start(self, live: LiveTrial) -> StoragePath | None:
        """Mark a trial as running; return the folder of its checkpoint, None if it has none."""
        live.decision = None
        self.running[live.number] = live
        self._mark(live, paused=False)
        return CheckpointPaths(self._study, None).of(live.stored)

    def pause(self, number: int) -> None:
        """Pause a running trial whose checkpoint is written."""
        assert self._promotion is not None, "it decided that the trial pauses"
        self._promotion.pause(number)
        self._keep(self.running.pop(number))

    def interrupt(self, number: int) -> None:
        """Move a running trial to the front of the queue."""
        self._interrupted.append(self.running.pop(number))

    def discard(self, number: int, *, failed: bool) -> None:
        """Remove an ended trial. If it failed, no trial is compared with it any more."""
        self.running.pop(number, None)
        if self._promotion:
            self._promotion.discard(number, failed=failed)

    def stop_creating(self) -> None:
        """Create no more trials."""
        self.num_trials = self._made
        self._study.set_user_attr(NUM_TRIALS, self._made)

    def _left(self) -> Iterator[int]:
        """Yield the ids of the trials that an earlier driver left, in order; mark them running."""
        for trial in self._study.get_trials(deepcopy=False):
            trial_id = trial_id_of(trial)
            if trial.state == TrialState.RUNNING and self._database is None:
                self._storage.set_trial_state_values(trial_id, TrialState.WAITING)
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
                yield trial_id

    def _claimed(self, trial_id: int) -> LiveTrial:
        """Mark an enqueued trial as running and return it."""
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return self._taken(trial_id)

    def _promoted(self) -> LiveTrial | None:
        """Return the paused trial to promote now; None if there is none."""
        promoted = self._promotion and self._promotion.pop_promotable(self.more_to_come)
        if not promoted:
            return None
        live = self._paused.pop(promoted.number)
        if promoted.audit:
            live.trial.set_user_attr(AUDIT, promoted.audit)
        return live

    def _new(self) -> LiveTrial:
        trial_id = self._storage.create_new_trial(study_id_of(self._study))
        preset = self._start_with and self._start_with.next(self._study.get_trials(deepcopy=False))
        if preset:
            self._storage.set_trial_system_attr(trial_id, FIXED_PARAMS, preset.params)
            if preset.why:
                self._storage.set_trial_user_attr(trial_id, START, preset.why)
        live = self._taken(trial_id)
        self._made = max(self._made, live.number + 1)
        return live

    def _taken(self, trial_id: int) -> LiveTrial:
        """Return a trial to run here; set the sampler of the study to the one for its number."""
        number = self._storage.get_trial_number_from_id(trial_id)
        self._study.sampler = sampler_for_trial(self._sampler, self._seed, number, {*self._paused})
        live = LiveTrial(trial_to_run(self._study, trial_id))
        stored = live.stored
        live.epochs = max(reports_of(stored), default=0.0)
        if self._promotion:
            self._promotion.add(
                number,
                curve_of(stored, self._promotion.state.max_epochs),
                exempt=START in stored.user_attrs,
                audited=AUDIT in stored.user_attrs,
            )
        return live

    def _keep(self, live: LiveTrial) -> None:
        """Keep a paused trial, and record in the study that it is paused."""
        self._paused[live.number] = live
        self._mark(live, paused=True)

    def _mark(self, live: LiveTrial, *, paused: bool) -> None:
        """Record in the study whether a trial is paused."""
        if live.stored.system_attrs.get(PAUSED, False) != paused:
            self._storage.set_trial_system_attr(trial_id_of(live.trial), PAUSED, paused)
