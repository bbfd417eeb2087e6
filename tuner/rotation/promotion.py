"""Promotion: which trials pause at a rung, which of them are promoted, and which are pruned.

The engine and the replay use the same class, so they make the same decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tuner.rotation.curve import RotationCurve
from tuner.rotation.decision import CONTINUES, Action, Verdict, decide, is_audited
from tuner.rotation.halving import HalvingState, PruningConfig


@dataclass(frozen=True)
class Decision:
    """The next step of a trial after a report, with the verdict that led to it.

    Attributes:
        action: the next step.
        verdict: the verdict of `decide`.

    Example:
        >>> Decision(Action.CONTINUE).verdict.prune
        False
    """

    action: Action
    verdict: Verdict = CONTINUES


class Promoted(NamedTuple):
    """A paused trial that continues now.

    Attributes:
        number: the number of the trial.
        audit: the reason to prune it, if it continues only as a control trial; else empty.

    Example:
        >>> Promoted(7)
        Promoted(number=7, audit='')
    """

    number: int
    audit: str = ""


class Promotion:
    """Decides at each report whether a trial continues, and later which paused trial is promoted.

    A trial that pauses is *pausing* until its checkpoint is written (`pause`). Then it is *paused*
    until it is promoted (`pop_promotable`) or pruned (`pop_unpromotable`).

    Args:
        config: the settings of the comparison.
        max_epochs: epochs of a whole trial, >= 1.
        may_pause: whether trials can pause. If not, trials are pruned where they would pause.

    Attributes:
        state: the standing of all trials.

    Example:
        >>> promotion = Promotion(PruningConfig(warmup_epochs=1), max_epochs=20)
        >>> for number, metric in enumerate((0.6, 0.8, 0.7)):
        ...     promotion.add(number, RotationCurve(("conv",), 20))
        ...     curve = RotationCurve(("conv",), 20).append(1, {"conv": 0.2}, metric=metric)
        ...     assert promotion.report(number, curve, more_to_come=True).action is Action.PAUSE
        ...     promotion.pause(number)
        >>> promotion.pop_promotable(more_to_come=False)
        Promoted(number=1, audit='')
        >>> list(promotion.paused)
        [0, 2]
    """

    def __init__(self, config: PruningConfig, max_epochs: int, *, may_pause: bool = True) -> None:
        self.state = HalvingState(config, max_epochs)
        self._may_pause = may_pause
        self._curves: dict[int, RotationCurve] = {}  # of the trials that have not ended
        self._pausing: set[int] = set()
        self._paused: dict[int, None] = {}  # in the order of pausing
        self._audited: set[int] = set()
        self._exempt: set[int] = set()

    @property
    def paused(self) -> Collection[int]:
        """The numbers of the paused trials, in the order of pausing."""
        return self._paused.keys()

    def load(self, curves: Mapping[int, RotationCurve]) -> None:
        """Add the trials of an earlier process, so that other trials are compared with them.

        Args:
            curves: all reports of each trial, by the trial's number.
        """
        self.state = self.state.with_curves(curves)

    def add(
        self, number: int, curve: RotationCurve, *, exempt: bool = False, audited: bool = False
    ) -> None:
        """Add a trial that will run, with its reports so far.

        Args:
            number: number of the trial.
            curve: its reports so far; may be empty.
            exempt: whether it runs to its end unless it diverges or does not learn.
            audited: whether it is a control trial already.
        """
        self._curves[number] = curve
        if exempt:
            self._exempt.add(number)
        if audited:
            self._audited.add(number)

    def curve(self, number: int) -> RotationCurve:
        """Return the reports so far of a trial that has not ended."""
        return self._curves[number]

    def recover(self, number: int) -> bool:
        """Pause a trial that an earlier process left at a rung; return whether it is paused."""
        if not self._decide(number).pause:
            return False
        self.pause(number)
        return True

    def report(self, number: int, curve: RotationCurve, *, more_to_come: bool) -> Decision:
        """Decide on a trial at a report.

        Args:
            number: number of the trial.
            curve: its reports. The last one is new, or is repeated after a restart.
            more_to_come: whether new trials will be started.
        """
        known = self._curves.get(number)
        self._curves[number] = curve
        if (known.epochs if known else ()) == curve.epochs[:-1]:
            self.state = self.state.with_report(number, curve)
        elif known is not curve:  # a report came late, or again
            self.state = self.state.with_curves({number: curve})
        verdict = self._decide(number)
        if verdict.audit:
            self._audited.add(number)
        if verdict.prune:
            return Decision(Action.STOP, verdict)
        if verdict.pause and not self._is_next(number, more_to_come):
            self._pausing.add(number)
            return Decision(Action.PAUSE, verdict)
        return Decision(Action.CONTINUE, verdict)

    def pause(self, number: int) -> None:
        """Make a pausing trial paused, once its checkpoint is written."""
        self._pausing.discard(number)
        self._paused[number] = None

    def pop_promotable(self, more_to_come: bool) -> Promoted | None:
        """Remove and return the paused trial that is promoted now; None if none may continue.

        `HalvingState.next_promotable` chooses it. Once no new trials will be started, it may also
        be a control trial.

        Args:
            more_to_come: whether new trials will be started.
        """
        if not self._paused:
            return None
        number = self.state.next_promotable(self._paused, more_to_come)
        promoted = None if number is None else Promoted(number)
        if promoted is None and not more_to_come:
            promoted = self._control_trial()
        if promoted is not None:
            del self._paused[promoted.number]
        return promoted

    def pop_unpromotable(self) -> Iterator[tuple[int, str]]:
        """Remove and yield every paused trial, with the reason to prune it.

        Call it once no trial runs, no new trial will be started and no paused trial is promotable.
        """
        while self._paused:
            number = min(self._paused)
            del self._paused[number]
            verdict = self._decide(number, final=True)
            assert verdict.prune, "a trial that may continue, or is a control trial, was promoted"
            yield number, verdict.reason

    def discard(self, number: int, *, failed: bool = False) -> None:
        """Remove a trial that has ended.

        Args:
            number: number of the trial.
            failed: whether the trial failed. Other trials are then no longer compared with it.
        """
        self._curves.pop(number, None)
        self._pausing.discard(number)
        if failed:
            self.state = self.state.without_trial(number)

    def _decide(self, number: int, *, final: bool = False) -> Verdict:
        return decide(
            number,
            self._curves[number],
            self.state,
            may_pause=self._may_pause and not final and number not in self._audited,
            final=final,
            exempt=number in self._exempt,
        )

    def _is_next(self, number: int, more_to_come: bool) -> bool:
        """Whether a trial at a rung would be promoted at once, so that it need not pause."""
        candidates = {*self._paused, *self._pausing, number}
        return self.state.next_promotable(candidates, more_to_come) == number

    def _control_trial(self) -> Promoted | None:
        """Return the first paused trial that is drawn as a control trial, else None."""
        for number in self._paused:
            if not is_audited(number, self.state.config):
                continue
            verdict = self._decide(number, final=True)
            if verdict.audit:
                self._audited.add(number)
                return Promoted(number, verdict.reason)
        return None
