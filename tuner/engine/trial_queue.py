"""TrialQueue: the trials of a study that run, are paused or are still to be created."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.engine.callbacks import RunCallback
from tuner.engine.trial_report import known_of
from tuner.rotation import HalvingState, Verdict
from tuner.rotation.decision import is_audited
from tuner.storage.database import DatabaseUnavailable
from tuner.storage.lease import HOLDER, PAUSED, to_set
from tuner.storage.paths import StoragePath
from tuner.storage.write_behind import StudyDelta, WriteBehindDatabase
from tuner.study.initial_trials import InitialTrials
from tuner.study.load import FIXED_PARAMS, NUM_TRIALS, read_trial
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
        frozen = self._study._storage.get_trial(trial._trial_id)
        may_wait = not final and AUDIT not in frozen.user_attrs
        return self._pruner.verdict(self._study, frozen, may_pause=may_wait, final=final)

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
        return self._pruner.state(self._study)

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


class Company:
    """Makes, takes up and knows the trials of a study beside other processes that do.

    Without a database there are none, and all of it is the study alone.

    Args:
        study: the study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        storage = study._storage
        self._shared = storage if isinstance(storage, WriteBehindDatabase) else None

    def left(self) -> Iterator[int]:
        """Yield the ids of the trials that this process takes up when it begins, in order."""
        if self._shared:
            yield from self._shared.left
            return
        storage = self._study._storage
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                yield trial._trial_id

    def create(self, limit: int) -> int | None:
        """Make a trial and return its id; None if others have made the last of `limit`.

        Raises:
            DatabaseUnavailable: the database does not answer now.
        """
        if self._shared:
            return self._shared.create_trial_within(limit)
        return self._study._storage.create_new_trial(self._study._study_id)

    def claim(self) -> int | None:
        """Take up the first trial that waits for anybody, and return its id; None if none does, or
        if the database does not answer now."""
        if self._shared is None:
            return None
        with suppress(DatabaseUnavailable):
            for trial in self._shared.others:
                if self._shared.is_free(trial) and self._shared.set_trial_state_values(
                    trial._trial_id, TrialState.RUNNING
                ):
                    return trial._trial_id
        return None

    def news(self, *, now: bool = False) -> StudyDelta:
        """Take in what others have done since the last time, or all until `now`.

        Raises:
            DatabaseUnavailable: the database does not answer `now`.
        """
        return self._shared.refresh(now=now) if self._shared else StudyDelta()

    def settle(self) -> None:
        """Write what is left and take in all that others have done, waiting for the database."""
        if self._shared:
            self._shared.settle()

    @property
    def is_alone(self) -> bool:
        """Whether no other process works on the study."""
        return self._shared is None or self._shared.is_alone()

    @property
    def has_trials(self) -> bool:
        """Whether there are trials that have not ended and are not this process's."""
        return bool(self._others)

    @property
    def busy(self) -> bool:
        """Whether others run trials, or are about to: not all of theirs are paused."""
        return any(
            trial.state == TrialState.WAITING or not trial.system_attrs.get(PAUSED)
            for trial in self._others
        )

    @property
    def paused(self) -> set[int]:
        """The numbers of the trials that others have paused."""
        return {trial.number for trial in self._others if trial.system_attrs.get(PAUSED)}

    def mark(self, trial: optuna.Trial, *, paused: bool) -> None:
        """Let others, and whoever watches, know whether a trial of this process is paused."""
        storage = self._study._storage
        known = storage.get_trial(trial._trial_id).system_attrs
        if known.get(PAUSED, False) != paused:
            storage.set_trial_system_attr(trial._trial_id, PAUSED, paused)

    def place_of(self, trial: FrozenTrial) -> StoragePath | None:
        """Return where a trial's checkpoint is, if that is another driver's folder."""
        holder = trial.system_attrs.get(HOLDER)
        if not self._shared or not self._shared.driver or holder == self._shared.driver.id:
            return None
        record = self._shared.records.get(str(holder))
        return StoragePath(record.trials) if record else None

    def agree(self, attrs: Mapping[str, Any], *, over: bool = False) -> dict[str, Any]:
        """Set user attributes of the study that it lacks, unless it has others than these, and
        return all that it has then.

        `over` sets them anew where the study has no trials and nobody else works on it.
        """
        if self._shared:
            return self._shared.agree(attrs, over=over)
        free = over and not self._study.get_trials(deepcopy=False)
        for key, value in to_set(attrs, self._study.user_attrs, free=free).items():
            self._study.set_user_attr(key, value)
        return self._study.user_attrs

    def keep_trials_at(self, place: StoragePath) -> None:
        """Let others know where the folders of this process's trials are."""
        if self._shared:
            self._shared.keep_trials_at(str(place))

    @property
    def _others(self) -> list[FrozenTrial]:
        return self._shared.others if self._shared else []


class TrialQueue:
    """Keeps the trials that run, wait or were interrupted, takes up others' and makes new ones.

    Args:
        study: whose trials they are.
        room: where trials wait for their peers.
        num_trials: trials in all, those already in the study included, >= 1.
        max_epochs: epochs of a whole trial, >= 1.
        sampler: a name or an Optuna sampler.
        seed: of a named sampler.
        start: what suggests the first trials; the sampler where there is none.
        observer: told of what others do.

    Attributes:
        running: the trials that run, by number.
    """

    def __init__(
        self,
        study: optuna.Study,
        room: PausedTrials,
        *,
        num_trials: int,
        max_epochs: int,
        sampler: str | BaseSampler,
        seed: int,
        start: InitialTrials | None,
        observer: RunCallback,
    ) -> None:
        self.num_trials = num_trials
        self.running: dict[int, optuna.Trial] = {}
        self._study = study
        self._room = room
        self._company = Company(study)
        self._max_epochs = max_epochs
        self._sampler = sampler
        self._seed = seed
        self._start_with = start
        self._observer = observer
        self._made = len(study.get_trials(deepcopy=False))
        self._interrupted: list[optuna.Trial] = []

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to run but what runs."""
        waits = self._interrupted or self._room or self._company.has_trials
        return not waits and not self.more_to_come

    @property
    def more_to_come(self) -> bool:
        """Whether new trials are to be made yet."""
        return self._made < self.num_trials

    def recover(self) -> None:
        """Take up the trials that another process left running or paused when it ended."""
        for trial_id in self._company.left():
            trial = self._taken(trial_id)
            if self._waits(trial):
                self._enter(trial)
            else:
                self._interrupted.append(trial)

    def release(self) -> None:
        """Let every trial that has not ended wait, to go on when the study is resumed."""
        for trial in (*self.running.values(), *self._room.empty(), *self._interrupted):
            self._study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self.running.clear()
        self._interrupted.clear()

    def sync(self, *, now: bool = False) -> bool:
        """Take in what others have done; return whether the study is another than before."""
        news = self._company.news(now=now)
        for trial in news.ended:
            self._observer.ended_elsewhere(read_trial(trial, self._max_epochs, None))
        for line in news.lines:
            self._observer.noted(line)
        if news.changed:
            self._made = len(self._study.get_trials(deepcopy=False))
        return news.changed

    def next(self) -> optuna.Trial | None:
        """Return the trial to run next; None if there is nothing to run, or nothing yet.

        Interrupted trials come first, then paused ones that may go on, then new ones.

        Raises:
            Away: the study's database does not answer now; it may later.
        """
        self.sync()
        if self._interrupted:
            return self._interrupted.pop(0)
        if (trial := self._claimed()) is not None:
            return trial
        if (trial := self._room.pop_promotable(self.more_to_come)) is not None:
            return trial
        if self.more_to_come:
            trial = self._new()
            return self.next() if trial is None else trial
        if self._is_idle and self._room and self.sync(now=True):
            return self.next()
        return None

    def unpromotable(self) -> Iterator[tuple[optuna.Trial, str]]:
        """Yield those who wait, each with the reason to prune it, when there is no `next` and
        nothing runs: none of them may go on any more.

        As long as others run trials there may be something later: those of a driver that dies are
        taken up.
        """
        if self._is_idle:
            yield from self._room.close()

    def start(self, trial: optuna.Trial) -> StoragePath | None:
        """Have a trial run; return where its checkpoint is, if that is another driver's folder."""
        self.running[trial.number] = trial
        self._company.mark(trial, paused=False)
        return self._company.place_of(known_of(trial))

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

    @property
    def _is_idle(self) -> bool:
        """Whether neither this process nor another runs trials, or is about to."""
        return not self.running and not self._company.busy

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
            self.sync()
            return None
        preset = self._start_with and self._start_with.next(self._study.get_trials(deepcopy=False))
        if preset:
            storage = self._study._storage
            storage.set_trial_system_attr(trial_id, FIXED_PARAMS, preset.params)
            if preset.why:
                storage.set_trial_user_attr(trial_id, START, preset.why)
        trial = self._taken(trial_id)
        self._made = max(self._made, trial.number + 1)
        return trial

    def _taken(self, trial_id: int) -> optuna.Trial:
        """A trial of this process, whose parameters are drawn as they are for its number."""
        number = self._study._storage.get_trial_number_from_id(trial_id)
        paused = {*self._room, *self._company.paused}
        self._study.sampler = sampler_for_trial(self._sampler, self._seed, number, paused)
        self._study._thread_local.cached_all_trials = None  # as `Study.ask` does
        return optuna.Trial(self._study, trial_id)

    def _waits(self, trial: optuna.Trial) -> bool:
        """Whether a trial that is taken up has to wait for its peers."""
        verdict = self._room.verdict(trial)
        return verdict is not None and verdict.pause

    def _enter(self, trial: optuna.Trial) -> None:
        self._room.enter(trial)
        self._company.mark(trial, paused=True)
