"""TrialQueue: the trials of a study that run, are paused or are still to be created."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tuner.engine.callbacks import RunCallback
from tuner.engine.trial_report import known_of
from tuner.rotation import HalvingState, Verdict
from tuner.rotation.decision import is_audited
from tuner.storage.lease import PAUSED
from tuner.storage.optuna_internals import storage_of, study_id_of, trial_id_of, trial_to_run
from tuner.storage.paths import StoragePath
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.initial_trials import InitialTrials
from tuner.study.load import FIXED_PARAMS, NUM_TRIALS, CheckpointPaths
from tuner.study.pruners import RotationPruner
from tuner.study.samplers import sampler_for_trial
from tuner.study.schema import AUDIT, START


class PausedTrials(Collection[int]):
    """Keeps the trials that wait, and says which of them goes on; a collection of their numbers.

    A trial that is to wait is still running until its checkpoint is written: it is entering. To
    Optuna one that waits is running too.

    Args:
        study: whose trials they are.
        is_open: whether trials can wait; needs a `RotationPruner`. Otherwise nobody ever does.
    """

    def __init__(self, study: optuna.Study, *, is_open: bool) -> None:
        self._study = study
        self._pruner = study.pruner if isinstance(study.pruner, RotationPruner) else None
        if not is_open:
            self._pruner = None
        self._entering: set[int] = set()
        self._waiting: dict[int, optuna.Trial] = {}

    def __contains__(self, number: object) -> bool:
        return number in self._waiting

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def rungs(self, max_epochs: int) -> tuple[float, ...]:
        """Return the epochs at which trials may come to wait."""
        return self._pruner.criteria.rungs(max_epochs) if self._pruner else ()

    def verdict(self, trial: optuna.Trial, *, final: bool = False) -> Verdict | None:
        """Return the verdict on a trial at its last report; None where nobody ever waits.

        An audited trial runs to its end: it waits no more.
        """
        if self._pruner is None:
            return None
        frozen = known_of(trial)
        may_wait = not final and AUDIT not in frozen.user_attrs
        return self._pruner.verdict(self._study, frozen, may_wait=may_wait, final=final)

    def should_pause(self, number: int, more_to_come: bool) -> bool:
        """Whether a running trial whose verdict is to wait has to; it is then entering."""
        candidates = {*self._waiting, *self._entering, number}
        if self._field.next_promotable(candidates, more_to_come) == number:
            return False
        self._entering.add(number)
        return True

    def is_entering(self, number: int) -> bool:
        """Whether a trial's checkpoint is to be written now, for it to go on from later."""
        return number in self._entering

    def enter(self, trial: optuna.Trial) -> None:
        """Keep a trial whose checkpoint is written."""
        self._entering.discard(trial.number)
        self._waiting[trial.number] = trial

    def discard(self, number: int) -> None:
        """Forget a trial that ended instead of entering."""
        self._entering.discard(number)

    def pop_promotable(self, more_to_come: bool) -> optuna.Trial | None:
        """Return, and keep no longer, the trial that goes on now, if any may.

        It is ahead of its peers, or, once there is nothing new to run, audited.
        """
        if not self._waiting:
            return None
        number = self._field.next_promotable(self._waiting, more_to_come)
        if number is None and not more_to_come:
            number = self._audited()
        return None if number is None else self._waiting.pop(number)

    def close(self) -> Iterator[tuple[optuna.Trial, str]]:
        """Yield those who are not to go on, each with the reason; the room is then empty."""
        while self._waiting:
            trial = self._waiting.pop(min(self._waiting))
            verdict = self.verdict(trial, final=True)
            assert verdict is not None, "nobody waits for another pruner"
            assert verdict.prune, "who may go on, or is audited, was let go"
            yield trial, verdict.reason

    def empty(self) -> list[optuna.Trial]:
        """Return those who wait, and keep them no longer."""
        trials = list(self._waiting.values())
        self._waiting.clear()
        self._entering.clear()
        return trials

    @property
    def _field(self) -> HalvingState:
        assert self._pruner is not None, "nobody waits for another pruner"
        return self._pruner.field(self._study)

    def _audited(self) -> int | None:
        """A trial that would be pruned, and is trained to its end all the same."""
        assert self._pruner is not None, "nobody waits for another pruner"
        for number, trial in self._waiting.items():
            if not is_audited(number, self._pruner.criteria):
                continue
            verdict = self.verdict(trial, final=True)
            if verdict is not None and verdict.audit:
                trial.set_user_attr(AUDIT, verdict.reason)
                return number
        return None


class TrialQueue:
    """Keeps the trials that run, are paused, were interrupted or were enqueued, and makes new ones.

    Args:
        study: whose trials they are.
        room: where trials wait for their peers.
        num_trials: trials in all, those already in the study included, >= 1.
        sampler: a name or an Optuna sampler.
        seed: of a named sampler.
        start: what suggests the first trials; the sampler where there is none.
        observer: gets the lines about the database.

    Attributes:
        running: the trials that run, by number.
    """

    def __init__(
        self,
        study: optuna.Study,
        room: PausedTrials,
        *,
        num_trials: int,
        sampler: str | BaseSampler,
        seed: int,
        start: InitialTrials | None,
        observer: RunCallback,
    ) -> None:
        self.num_trials = num_trials
        self.running: dict[int, optuna.Trial] = {}
        self._study = study
        self._room = room
        self._storage = storage = storage_of(study)
        self._database = storage if isinstance(storage, WriteBehindDatabase) else None
        self._sampler = sampler
        self._seed = seed
        self._start_with = start
        self._observer = observer
        self._made = len(study.get_trials(deepcopy=False))
        self._interrupted: list[optuna.Trial] = []
        self._enqueued: list[int] = []  # ids

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to run but what runs."""
        left = self._interrupted or self._enqueued or self._room or self.more_to_come
        return not left

    @property
    def more_to_come(self) -> bool:
        """Whether new trials are to be made yet."""
        return self._made < self.num_trials

    def recover(self) -> None:
        """Queue the trials that an earlier process left running or paused when it ended."""
        for trial_id in self._left():
            trial = self._taken(trial_id)
            if self._waits(trial):
                self._enter(trial)
            else:
                self._interrupted.append(trial)

    def release(self) -> None:
        """Let every trial that has not ended wait, to go on when the study is resumed."""
        for trial in (*self.running.values(), *self._room.empty(), *self._interrupted):
            self._storage.set_trial_state_values(trial_id_of(trial), TrialState.WAITING)
        self.running.clear()
        self._interrupted.clear()

    def sync(self) -> None:
        """Read which trials were enqueued from elsewhere, and show what is new of the database.

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

    def next(self) -> optuna.Trial | None:
        """Return the trial to run next; None if there is nothing to run, or nothing yet.

        Interrupted trials come first, then enqueued ones, then paused ones that may go on, then new
        ones.

        Raises:
            DatabaseUnavailable: the study's database does not answer now; it may later.
        """
        self.sync()
        if self._interrupted:
            return self._interrupted.pop(0)
        if self._enqueued:
            return self._claimed(self._enqueued.pop(0))
        if (trial := self._room.pop_promotable(self.more_to_come)) is not None:
            return trial
        return self._new() if self.more_to_come else None

    def unpromotable(self) -> Iterator[tuple[optuna.Trial, str]]:
        """Yield the paused trials, each with the reason to prune it, once there is no `next` and
        nothing runs: none of them can go on any more."""
        if not self.running:
            yield from self._room.close()

    def start(self, trial: optuna.Trial) -> StoragePath | None:
        """Note that a trial runs; return the path that holds its checkpoint, if a former driver
        kept it in another folder."""
        self.running[trial.number] = trial
        self._mark(trial, paused=False)
        return CheckpointPaths(self._study, None).of(known_of(trial))

    def pause(self, number: int) -> None:
        """Have a running trial whose checkpoint is written wait for its peers."""
        self._enter(self.running.pop(number))

    def interrupt(self, number: int) -> None:
        """Take back a running trial, to be the `next`; one on its way to wait waits."""
        if self._room.is_entering(number):
            self.pause(number)
        else:
            self._interrupted.append(self.running.pop(number))

    def discard(self, number: int) -> None:
        """Forget a trial that has ended."""
        self.running.pop(number, None)
        self._room.discard(number)

    def stop_creating(self) -> None:
        """Let the trials that were made by now be all."""
        self.num_trials = self._made
        self._study.set_user_attr(NUM_TRIALS, self._made)

    def _left(self) -> Iterator[int]:
        """Yield the ids of the trials that an earlier driver has not ended, in order; they run."""
        for trial in self._study.get_trials(deepcopy=False):
            trial_id = trial_id_of(trial)
            if trial.state == TrialState.RUNNING and self._database is None:
                self._storage.set_trial_state_values(trial_id, TrialState.WAITING)
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
                yield trial_id

    def _claimed(self, trial_id: int) -> optuna.Trial:
        """An enqueued trial, which runs from now on."""
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return self._taken(trial_id)

    def _new(self) -> optuna.Trial:
        trial_id = self._storage.create_new_trial(study_id_of(self._study))
        preset = self._start_with and self._start_with.next(self._study.get_trials(deepcopy=False))
        if preset:
            self._storage.set_trial_system_attr(trial_id, FIXED_PARAMS, preset.params)
            if preset.why:
                self._storage.set_trial_user_attr(trial_id, START, preset.why)
        trial = self._taken(trial_id)
        self._made = max(self._made, trial.number + 1)
        return trial

    def _taken(self, trial_id: int) -> optuna.Trial:
        """A trial of this process, whose parameters are drawn as they are for its number."""
        number = self._storage.get_trial_number_from_id(trial_id)
        self._study.sampler = sampler_for_trial(self._sampler, self._seed, number, {*self._room})
        return trial_to_run(self._study, trial_id)

    def _waits(self, trial: optuna.Trial) -> bool:
        """Whether a trial that is taken up has to wait for its peers."""
        verdict = self._room.verdict(trial)
        return verdict is not None and verdict.wait

    def _enter(self, trial: optuna.Trial) -> None:
        self._room.enter(trial)
        self._mark(trial, paused=True)

    def _mark(self, trial: optuna.Trial, *, paused: bool) -> None:
        """Record whether a trial is paused, for those who watch the study."""
        if known_of(trial).system_attrs.get(PAUSED, False) != paused:
            self._storage.set_trial_system_attr(trial_id_of(trial), PAUSED, paused)
