"""Where trials wait at a rung until more of their peers are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import optuna

from tuner.rotation import Field, Verdict
from tuner.rotation.verdict import is_audited
from tuner.study.pruners import RotationPruner
from tuner.study.record import AUDIT


class WaitingRoom(Collection[int]):
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

    def verdict(self, trial: optuna.Trial, *, closing: bool = False) -> Verdict | None:
        """Return the verdict on a trial at its last report; None where nobody ever waits.

        An audited trial runs to its end: it waits no more.
        """
        if self._pruner is None:
            return None
        frozen = self._study._storage.get_trial(trial._trial_id)
        may_wait = not closing and AUDIT not in frozen.user_attrs
        return self._pruner.verdict(self._study, frozen, may_wait=may_wait, closing=closing)

    def keeps(self, number: int, more_to_come: bool) -> bool:
        """Whether a running trial whose verdict is to wait has to; it is then entering."""
        candidates = {*self._waiting, *self._entering, number}
        if self._field.next_up(candidates, more_to_come) == number:
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

    def turn_away(self, number: int) -> None:
        """Forget a trial that ended instead of entering."""
        self._entering.discard(number)

    def let_go(self, more_to_come: bool) -> optuna.Trial | None:
        """Return, and keep no longer, the trial that goes on now, if any may.

        It is ahead of its peers, or, once there is nothing new to run, audited.
        """
        if not self._waiting:
            return None
        number = self._field.next_up(self._waiting, more_to_come)
        if number is None and not more_to_come:
            number = self._audited()
        return None if number is None else self._waiting.pop(number)

    def close(self) -> Iterator[tuple[optuna.Trial, str]]:
        """Yield those who are not to go on, each with the reason; the room is then empty."""
        while self._waiting:
            trial = self._waiting.pop(min(self._waiting))
            verdict = self.verdict(trial, closing=True)
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
    def _field(self) -> Field:
        assert self._pruner is not None, "nobody waits for another pruner"
        return self._pruner.field(self._study)

    def _audited(self) -> int | None:
        """A trial that would be pruned, and is trained to its end all the same."""
        assert self._pruner is not None, "nobody waits for another pruner"
        for number, trial in self._waiting.items():
            if not is_audited(number, self._pruner.criteria):
                continue
            verdict = self.verdict(trial, closing=True)
            if verdict is not None and verdict.audit:
                trial.set_user_attr(AUDIT, verdict.reason)
                return number
        return None
