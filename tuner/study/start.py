"""The first trials of a study: a ladder of rotations, then steps between the best of its rungs.

Where a space sets the rotation itself the first trials stand on that coordinate. What they show
decides whether the sampler's own first draws go back to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study.axis import Axis, find_axis
from tuner.study.record import START
from tuner.study.space import Space

STARTS = ("rotation", "random")

_REFINEMENTS = 2
# How many trials of the sampler's own the ladder must have beaten before each refinement.
_BEATEN = 3
# Until so many trials have ended Optuna's samplers draw at random.
_STARTUP = 10
# Two points nearer than this are one: e^0.1 in -ln(1 - distance), or in the rate.
_SAME = 0.1
# A sampler that is to cover the space by itself is left to it.
_ALONE = ("random", "qmc")


@dataclass(frozen=True)
class Preset:
    """Parameters that are set before a trial is suggested.

    Attributes:
        params: all of them, or those without which the sampler is not to draw.
        why: which point of the coordinate the trial is; empty where the sampler draws.
    """

    params: dict[str, Any]
    why: str = ""


class RotationStart:
    """Says what the first trials of a study are; what it knows is in the study.

    Args:
        axis: the coordinate.
        direction: of the study.
    """

    def __init__(self, axis: Axis, direction: StudyDirection) -> None:
        self.axis = axis
        self._sign = 1 if direction == StudyDirection.MAXIMIZE else -1

    def next(self, trials: Sequence[FrozenTrial]) -> Preset | None:
        """Return what is set of the next trial; None when all is for the sampler to suggest.

        The ladder's points come at once, then the sampler's trials. A refinement comes between
        these as long as one of the first trials leads, and once all before it have ended. While
        none leads, what the sampler draws at random goes elsewhere: the ladder has been there.
        """
        begun = [trial for trial in trials if START in trial.user_attrs]
        rungs = self.axis.ladder
        if len(begun) < len(rungs):
            return self._at(rungs[len(begun)], "ladder")
        beaten = self._beaten(trials)
        return self._refinement(begun, beaten) if beaten else self._elsewhere(trials)

    def _at(self, value: float, kind: str) -> Preset:
        what = "a final distance of" if self.axis.is_distance else "a rate of"
        return Preset(self.axis.params(value), f"{kind}: {what} {value:.3g}")

    def _beaten(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of the sampler's trials the first have beaten; 0 while none of these leads."""
        known = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = max(known, key=lambda trial: self._sign * (trial.value or 0.0), default=None)
        if best is None or START not in best.user_attrs:
            return 0
        return sum(_has_ended(trial) and START not in trial.user_attrs for trial in trials)

    def _elsewhere(self, trials: Sequence[FrozenTrial]) -> Preset | None:
        """A choice without Layca, the one that fewest trials have made."""
        gate = self.axis.gate
        if gate is None or sum(map(_has_ended, trials)) >= _STARTUP:
            return None
        made = Counter(
            str(trial.params[gate.name]) for trial in trials if gate.name in trial.params
        )
        return Preset({gate.name: min(gate.others, key=lambda choice: made[str(choice)])})

    def _refinement(self, begun: Sequence[FrozenTrial], beaten: int) -> Preset | None:
        refined = len(begun) - len(self.axis.ladder)
        ended = all(trial.state.is_finished() for trial in begun)
        if not ended or refined >= _REFINEMENTS or beaten < (refined + 1) * _BEATEN:
            return None
        place = self._refined(
            {
                self.axis.place(trial.params[self.axis.name]): self._sign * trial.value
                for trial in begun
                if trial.state == TrialState.COMPLETE and trial.value is not None
            }
        )
        return None if place is None else self._at(self.axis.at(place), "refined")

    def _refined(self, known: Mapping[float, float]) -> float | None:
        """Return the place between the best and the better of its neighbours, or beyond an end
        that is the best; None if that is known, or too little is."""
        places = sorted(known)
        if len(places) < 2:
            return None
        best = max(places, key=known.__getitem__)
        at = places.index(best)
        beside = [places[i] for i in (at - 1, at + 1) if 0 <= i < len(places)]
        between = (best + max(beside, key=known.__getitem__)) / 2
        candidates = [between]
        if len(beside) == 1:
            beyond = self.axis.place(self.axis.at(best + (best - beside[0]) / 2))
            candidates.insert(0, beyond)
        for candidate in candidates:
            if all(abs(candidate - place) > _SAME for place in places):
                return candidate
        return None


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def first_trials(
    space: Space, start: str | None, sampler: str | BaseSampler, direction: StudyDirection
) -> RotationStart | None:
    """Return what suggests a study's first trials; None where the sampler does from the first.

    Args:
        space: the search space.
        start: "rotation" or "random"; None is for rotation, unless the sampler is to cover the
            space by itself: a random one, or an object of the user's own.
        sampler: of the job.
        direction: of the study.
    """
    alone = isinstance(sampler, BaseSampler) or sampler in _ALONE
    if start == "random" or (start is None and alone):
        return None
    axis = find_axis(space)
    return None if axis is None else RotationStart(axis, direction)
