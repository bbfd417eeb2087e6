"""Measure the error of the forecast of a study's end.

Recorded studies are replayed with pausing, as in jobs. An epoch takes one unit of time for every
trial. At a quarter, half and three quarters of the run, the time left is forecast in three ways:
from the epochs that remain, as `quarterturn watch` and `run` do now; and as they did before, from
the trials that have not ended, at the rate of the last 20 ended ones (`watch`) or of all (`run`).

    python benchmarks/foretold.py benchmarks/curves/*.parquet --json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.replay.recording import Recording, read_recording
from tuner.replay.schedulers import NEW, Action, Policy, RotationPolicy
from tuner.replay.simulator import simulate
from tuner.rotation import PruningConfig, RotationCurve
from tuner.study.result import epochs_to_come

SHARES = (0.25, 0.5, 0.75)
RECENT = 20


@dataclass(frozen=True)
class Moment:
    """A study at a report.

    Attributes:
        at: the time.
        ended: the epochs of the ended trials.
        running: the epochs of the running trials.
        waiting: the epochs of the paused trials.
        ends: the times at which trials ended.
    """

    at: float
    ended: tuple[float, ...]
    running: tuple[float, ...]
    waiting: tuple[float, ...]
    ends: tuple[float, ...]


@dataclass
class Watched(Policy):
    """A policy that records a `Moment` at each report."""

    policy: Policy
    numbers: Sequence[int]  # in the order in which trials are suggested
    seen: list[Moment] = field(default_factory=list)
    clock: float = 0.0
    began: dict[int, float] = field(default_factory=dict)  # as if it had never paused
    epochs: dict[int, float] = field(default_factory=dict)
    state: dict[int, str] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)

    def report(self, number: int, curve: RotationCurve) -> Action:
        self.epochs[number] = curve.epochs[-1]
        self.clock = self.began[number] + curve.epochs[-1]
        action = self.policy.report(number, curve)
        if action is Action.STOP or curve.epochs[-1] == curve.max_epochs:
            self.state[number] = "ended"
            self.ends.append(self.clock)
        elif action is Action.PAUSE:
            self.state[number] = "waiting"
        parts = {
            state: tuple(self.epochs[n] for n, its in self.state.items() if its == state)
            for state in ("ended", "running", "waiting")
        }
        self.seen.append(Moment(self.clock, **parts, ends=tuple(self.ends)))
        return action

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        chosen = self.policy.choose(paused, new)
        if chosen is not None:
            number = self.numbers[len(self.began)] if chosen == NEW else chosen
            self.state[number] = "running"
            self.began[number] = self.clock - self.epochs.setdefault(number, 0.0)
        return chosen


def by_epochs(now: Moment, trials: int, max_epochs: int) -> float | None:
    """Return the time left from the epochs that remain, at the rate so far; None if unknown."""
    if not now.ends:
        return None
    epochs = (*now.ended, *now.running, *now.waiting)
    to_come = epochs_to_come(
        ended=now.ended,
        running=now.running,
        waiting=now.waiting,
        new=trials - len(epochs),
        max_epochs=max_epochs,
    )
    return to_come * now.at / math.fsum(epochs)


def by_last_trials(now: Moment, trials: int, max_epochs: int) -> float | None:
    """Return the time left from the trials that remain, at the rate of the last ended ones."""
    last = now.ends[-RECENT:]
    if len(last) < 2 or last[-1] == last[0]:
        return None
    return (trials - len(now.ends)) * (last[-1] - last[0]) / (len(last) - 1)


def by_all_trials(now: Moment, trials: int, max_epochs: int) -> float | None:
    """Return the time left from the trials that remain, at the rate of all ended ones."""
    return (trials - len(now.ends)) * now.at / len(now.ends) if now.ends else None


WAYS: dict[str, Callable[[Moment, int, int], float | None]] = {
    "epochs to come": by_epochs,
    "before, watch": by_last_trials,
    "before, run": by_all_trials,
}


def replayed(recording: Recording, count: int, workers: int, seed: int) -> list[Moment]:
    """Replay a study of some of the recorded trials, and return its moments."""
    trials = random.Random(seed).sample(recording.trials, min(count, len(recording.trials)))
    config = PruningConfig(
        target=recording.rotation_target,
        mode=recording.mode,
        warmup_epochs=recording.warmup_epochs,
        seed=seed,
    )
    policy = RotationPolicy(recording.max_epochs, config)
    watched = Watched(policy, [trial.number for trial in trials])
    simulate(trials, watched, workers, recording.mode)
    return watched.seen


def measure(
    recordings: Sequence[Recording], count: int, workers: int, repeats: int
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return forecast divided by true time left, for each way and share of a run."""
    ratios: dict[tuple[str, float], list[float | None]] = {}
    for recording in recordings:
        for seed in range(repeats):
            seen = replayed(recording, count, workers, seed)
            end = seen[-1].at
            for share in SHARES:
                now = [moment for moment in seen if moment.at <= share * end][-1]
                for name, way in WAYS.items():
                    told = way(now, count, recording.max_epochs)
                    ratio = None if told is None else told / (end - now.at)
                    ratios.setdefault((name, share), []).append(ratio)
    return {
        name: {f"{share:g}": _summary(ratios[name, share]) for share in SHARES} for name in WAYS
    }


def _summary(ratios: list[float | None]) -> dict[str, float | None]:
    known = sorted(ratio for ratio in ratios if ratio is not None)
    tenth = len(known) // 10
    return {
        "median": round(statistics.median(known), 2) if known else None,
        "low": round(known[tenth], 2) if known else None,
        "high": round(known[-1 - tenth], 2) if known else None,
        "silent": round(1 - len(known) / len(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10, help="orders of each recording")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    recordings = [read_recording(path) for path in args.recordings]
    found = measure(recordings, args.trials, args.workers, args.repeats)
    if args.json:
        print(json.dumps({"foretold over what came": found}))
        return
    for name, shares in found.items():
        for share, of in shares.items():
            print(
                f"{name:16} at {share:4} of the time: {of['median']} times what came, "
                f"{of['low']} to {of['high']} in 80 % of the studies, silent in {of['silent']:.0%}"
            )


if __name__ == "__main__":
    main()
