"""The other processes that work on a study, if its storage lets several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.study.behind import WriteBehindDatabase
from tuner.study.driver import HOLDER, PAUSED
from tuner.study.known_study import News
from tuner.study.outage import Away
from tuner.study.places import Place
from tuner.study.shared import to_set


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
            Away: the database does not answer now.
        """
        if self._shared:
            return self._shared.create_trial_within(limit)
        return self._study._storage.create_new_trial(self._study._study_id)

    def claim(self) -> int | None:
        """Take up the first trial that waits for anybody, and return its id; None if none does, or
        if the database does not answer now."""
        if self._shared is None:
            return None
        with suppress(Away):
            for trial in self._shared.others:
                if self._shared.is_free(trial) and self._shared.set_trial_state_values(
                    trial._trial_id, TrialState.RUNNING
                ):
                    return trial._trial_id
        return None

    def news(self, *, now: bool = False) -> News:
        """Take in what others have done since the last time, or all until `now`.

        Raises:
            Away: the database does not answer `now`.
        """
        return self._shared.refresh(now=now) if self._shared else News()

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

    def place_of(self, trial: FrozenTrial) -> Place | None:
        """Return where a trial's checkpoint is, if that is another driver's folder."""
        holder = trial.system_attrs.get(HOLDER)
        if not self._shared or not self._shared.driver or holder == self._shared.driver.id:
            return None
        record = self._shared.records.get(str(holder))
        return Place(record.trials) if record else None

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

    def keep_trials_at(self, place: Place) -> None:
        """Let others know where the folders of this process's trials are."""
        if self._shared:
            self._shared.keep_trials_at(str(place))

    @property
    def _others(self) -> list[FrozenTrial]:
        return self._shared.others if self._shared else []
