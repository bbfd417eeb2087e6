"""simulate: run a scheduler on trials whose whole curves are known."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tuner.errors import InvalidInput
from tuner.replay.schedulers import NEW, Policy, feature, is_whole
from tuner.rotation import Action, Mode, RotationCurve

if TYPE_CHECKING:
    from tuner.replay.recording import RecordedTrial

_PREFIXES: WeakKeyDictionary[RotationCurve, tuple[RotationCurve, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Replayed:
    """The outcome of one repeat.

    Attributes:
        epochs: the last epoch that each trial reached, by number; 0.0 if it was never started.
        finished: the trials that ran to their end.
        selected: the trial that a user would select. It has the best final metric among the
            finished trials; if none finished, the best last metric among the others. A NaN metric
            is selected only if no trial has a metric. Of equal trials the first in order is
            selected. None if no trial was started.
        metric: the last metric of the selected trial; NaN if it has none.
    """

    epochs: Mapping[int, float]
    finished: frozenset[int]
    selected: int | None
    metric: float

    @property
    def total_epochs(self) -> float:
        """The epochs trained in all."""
        return sum(self.epochs.values())


def simulate(trials: Sequence[RecordedTrial], policy: Policy, workers: int, mode: Mode) -> Replayed:
    """Run a scheduler on recorded trials.

    Every worker trains one trial at a time. An epoch takes one unit of time. Reports at the same
    time arrive in the order in which their epochs began. A free worker asks the policy for a trial;
    after an answer of None it asks again at the next report. A paused trial continues where it
    paused, at no cost; if it never continues it counts as stopped. The replay ends when no trial
    runs and the policy chooses none.

    Args:
        trials: the trials, in the order of their suggestion.
        policy: a new policy. It gets only the part of a curve that has been trained.
        workers: the number of trials that run at once, >= 1.
        mode: whether a lower or a higher metric is better.

    Raises:
        InvalidInput: `workers` is below 1, two trials have the same number, a recording stops
            early, or the policy chooses a trial that is not paused.
    """
    _check(trials, workers)
    replay = _Replay({trial.number: prefixes(trial.curve) for trial in trials}, policy, workers)
    while replay.start_what_is_chosen():
        replay.next_report()
    return _outcome(replay.curves, replay.seen, mode)


def prefixes(curve: RotationCurve) -> tuple[RotationCurve, ...]:
    """Return the curve as it stood at each of its reports; the result is cached."""
    made = _PREFIXES.get(curve)
    if made is None:
        made = tuple(
            RotationCurve(
                layers=curve.layers,
                max_epochs=curve.max_epochs,
                epochs=curve.epochs[:seen],
                lr_progress=curve.lr_progress[:seen],
                distances=curve.distances[:seen],
                train_loss=curve.train_loss[:seen],
                metric=curve.metric[:seen],
            )
            for seen in range(1, len(curve) + 1)
        )
        _PREFIXES[curve] = made
    return made


@dataclass
class _Replay:
    curves: Mapping[int, Sequence[RotationCurve]]
    policy: Policy
    idle: int
    seen: dict[int, int] = field(init=False)  # reports, by trial
    new: deque[int] = field(init=False)
    paused: dict[int, None] = field(default_factory=dict)
    # The time of the next report, the order at equal times, the trial, and the time at which it
    # would have begun without pauses. Times are sums of two numbers, so rounding separates no ties.
    running: list[tuple[float, int, int, float]] = field(default_factory=list)
    clock: float = 0.0
    order: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.seen = dict.fromkeys(self.curves, 0)
        self.new = deque(self.curves)

    def start_what_is_chosen(self) -> bool:
        """Start the trials that the policy chooses; return whether any trial runs."""
        while self.idle and (self.new or self.paused):
            chosen = self.policy.choose(tuple(self.paused), bool(self.new))
            if chosen is None:
                break
            number = self._take(chosen)
            seen = self.seen[number]
            already = self.curves[number][seen - 1].epochs[-1] if seen else 0.0
            self._run(number, self.clock - already)
            self.idle -= 1
        return bool(self.running)

    def next_report(self) -> None:
        self.clock, _, number, began = heapq.heappop(self.running)
        curve = self.curves[number][self.seen[number]]
        self.seen[number] += 1
        action = self.policy.report(number, curve)
        ended = self.seen[number] == len(self.curves[number])
        if action is Action.CONTINUE and not ended:
            self._run(number, began)
            return
        self.idle += 1
        if action is Action.PAUSE and not ended:
            self.paused[number] = None

    def _take(self, chosen: int) -> int:
        if chosen == NEW and self.new:
            return self.new.popleft()
        if chosen not in self.paused:
            raise InvalidInput(
                f"a policy must choose a paused trial {list(self.paused)} or, while there are any, "
                f"NEW, got {chosen}; return None to wait"
            )
        del self.paused[chosen]
        return chosen

    def _run(self, number: int, began: float) -> None:
        at = began + self.curves[number][self.seen[number]].epochs[-1]
        heapq.heappush(self.running, (at, next(self.order), number, began))


def _outcome(
    curves: Mapping[int, Sequence[RotationCurve]], seen: Mapping[int, int], mode: Mode
) -> Replayed:
    reached = {number: curves[number][n - 1] for number, n in seen.items() if n}
    finished = frozenset(number for number, n in seen.items() if n == len(curves[number]))
    last = {number: _last_metric(curve) for number, curve in reached.items()}
    selected = max(
        reached,
        # The first in order wins a tie, since max keeps the first.
        key=lambda n: (not math.isnan(last[n]), n in finished, feature(last[n], mode)),
        default=None,
    )
    return Replayed(
        epochs={n: reached[n].epochs[-1] if n in reached else 0.0 for n in curves},
        finished=finished,
        selected=selected,
        metric=math.nan if selected is None else last[selected],
    )


def _last_metric(curve: RotationCurve) -> float:
    """Return the metric at the last whole epoch; NaN before the first."""
    for epoch, metric in zip(reversed(curve.epochs), reversed(curve.metric), strict=True):
        if is_whole(epoch):
            return metric
    return math.nan


def _check(trials: Sequence[RecordedTrial], workers: int) -> None:
    if workers < 1:
        raise InvalidInput(f"workers must be >= 1, got {workers}; use 1 for one trial at a time")
    numbers = set()
    for trial in trials:
        if trial.number in numbers:
            raise InvalidInput(
                f"a trial can be replayed once, got number {trial.number} twice; "
                "draw the trials without replacement"
            )
        numbers.add(trial.number)
        reached = trial.curve.epochs[-1] if len(trial.curve) else 0
        if reached != trial.curve.max_epochs:
            raise InvalidInput(
                f"a replayed trial must be recorded to its last epoch {trial.curve.max_epochs}, "
                f"got trial {trial.number} up to {reached:g}; leave out the stopped trials"
            )
