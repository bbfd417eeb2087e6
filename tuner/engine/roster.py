"""The trials of a study that this process has in hand, and which of them runs next."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tuner.engine.company import Company
from tuner.engine.known import known_of
from tuner.engine.observer import Observer
from tuner.engine.waiting import WaitingRoom
from tuner.study.load import FIXED_PARAMS, NUM_TRIALS, read_trial
from tuner.study.places import Place
from tuner.study.record import START
from tuner.study.samplers import sampler_for_trial
from tuner.study.start import RotationStart


class Roster:
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
        room: WaitingRoom,
        *,
        num_trials: int,
        max_epochs: int,
        sampler: str | BaseSampler,
        seed: int,
        start: RotationStart | None,
        observer: Observer,
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

    def hear(self, *, now: bool = False) -> bool:
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
        self.hear()
        if self._interrupted:
            return self._interrupted.pop(0)
        if (trial := self._claimed()) is not None:
            return trial
        if (trial := self._room.let_go(self.more_to_come)) is not None:
            return trial
        if self.more_to_come:
            trial = self._new()
            return self.next() if trial is None else trial
        if self._is_idle and self._room and self.hear(now=True):
            return self.next()
        return None

    def in_vain(self) -> Iterator[tuple[optuna.Trial, str]]:
        """Yield those who wait, each with the reason to prune it, when there is no `next` and
        nothing runs: none of them may go on any more.

        As long as others run trials there may be something later: those of a driver that dies are
        taken up.
        """
        if self._is_idle:
            yield from self._room.close()

    def start(self, trial: optuna.Trial) -> Place | None:
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

    def strike(self, number: int) -> None:
        """Forget a trial that has ended."""
        self.running.pop(number, None)
        self._room.turn_away(number)

    def make_no_more(self) -> None:
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
            self.hear()
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
        return verdict is not None and verdict.wait

    def _enter(self, trial: optuna.Trial) -> None:
        self._room.enter(trial)
        self._company.mark(trial, paused=True)
