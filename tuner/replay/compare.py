"""Compare schedulers on the same random orders of recorded trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.errors import InvalidInput, unknown_name
from tuner.replay.recording import RecordedTrial, Recording
from tuner.replay.schedulers import PEERS, PeerFactory, RotationPolicy, feature, is_whole
from tuner.replay.simulator import Replayed, simulate
from tuner.rotation import Mode, PruningConfig


def schedulers_judging_by(config: PruningConfig) -> dict[str, PeerFactory]:
    """Return all schedulers by name.

    This project's schedulers judge by `config`, with the mode and the seed of the replay.
    """

    def rotation(*, pausing: bool = True, metric: bool = True) -> PeerFactory:
        return lambda max_epochs, mode, seed: RotationPolicy(
            max_epochs, replace(config, mode=mode, seed=seed), pausing=pausing, metric=metric
        )

    return {
        **PEERS,
        "rotation": rotation(),
        "rotation-stop": rotation(pausing=False),
        "rotation-only": rotation(metric=False),
    }


# The schedulers with the settings that a job has by default.
SCHEDULERS: Mapping[str, PeerFactory] = schedulers_judging_by(PruningConfig())
# Its permutation tests take seconds for each repeat.
SLOW = "wilcoxon"
FAMILIES: Mapping[str, Sequence[str]] = {
    "all": tuple(SCHEDULERS),
    "asha": ("asha-2", "asha-3", "asha-4"),
    "one-epoch": ("one-epoch-1", "one-epoch-3"),
}
DEFAULT = tuple(name for name in SCHEDULERS if name != SLOW)


@dataclass(frozen=True)
class Outcome:
    """One repeat of one scheduler, compared with `none` on the same trials in the same order.

    Attributes:
        epochs: the epochs trained in all.
        best: the number of the trial that `none` selects.
        selected: the number of the trial that the scheduler selects.
        best_kept: whether `best` ran to its end.
        val_loss: the final metric of `best` minus that of `selected`, with the sign such that
            more is worse. The recorded end counts even if `selected` was stopped earlier. NaN if
            no trial ends with a metric.
        test_loss: the same on the test split; NaN if that is unknown.
    """

    epochs: float
    best: int
    selected: int
    best_kept: bool
    val_loss: float
    test_loss: float


@dataclass(frozen=True)
class Figures:
    """The cost and the loss of one scheduler over all repeats.

    A repeat in which no trial ends with a metric has no best trial; it counts only for the epochs.
    The standard errors are over repeats of one recording; another recording may differ more. NaN
    is unknown.

    Attributes:
        epochs_per_trial: the mean over repeats.
        speedup: the epochs of `none` over its own.
        val_loss_mean, val_loss_se, val_loss_p90: in units of the metric, more is worse; see
            `Outcome`. p90 is the 90th percentile of the repeats.
        test_loss_mean, test_loss_se: the same on the test split.
        best_kept: share of the repeats in which the trial that `none` selects ran to its end.
    """

    epochs_per_trial: float
    speedup: float
    val_loss_mean: float
    val_loss_se: float
    val_loss_p90: float
    test_loss_mean: float
    test_loss_se: float
    best_kept: float


@dataclass(frozen=True)
class Comparison:
    """The results of several schedulers on one recording.

    Attributes:
        recording: the recording.
        trials: the number of trials in each repeat.
        repeats, workers, seed: the arguments of `replay`.
        schedulers: the figures by the scheduler's name, in the order of the arguments.
        outcomes: the repeats of each scheduler, in order. The same index is the same draw.
    """

    recording: Recording
    trials: int
    repeats: int
    workers: int
    seed: int
    schedulers: Mapping[str, Figures]
    outcomes: Mapping[str, Sequence[Outcome]]


def replay(
    recording: Recording,
    schedulers: Sequence[str] = DEFAULT,
    *,
    trials: int = 50,
    repeats: int = 50,
    workers: int = 1,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> Comparison:
    """Replay a recording through several schedulers and compare what they cost and lose.

    Every repeat draws trials without replacement and in random order, by the seed and the number of
    the repeat. All schedulers get the same draw.

    Args:
        recording: its whole trials are drawn from.
        schedulers: names of `SCHEDULERS` or `FAMILIES`.
        trials: trials to draw for each repeat, >= 2; all trials if there are fewer.
        repeats: the number of draws, >= 1.
        workers: how many trials run at once, >= 1.
        seed: the seed of the draws, >= 0.
        advance: called after each of the repeats of each scheduler.

    Raises:
        InvalidInput: a name is unknown, a number is outside its range, or the recording has fewer
            than two whole trials.
    """
    names = find_schedulers(schedulers)
    _check(recording, trials, repeats, workers, seed)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    for repeat in range(repeats):
        drawn = draw(recording.trials, trials, seed, repeat)
        everything = _simulate("none", drawn, recording, workers, repeat)
        for name in names:
            replayed = _simulate(name, drawn, recording, workers, repeat)
            outcomes[name].append(_outcome(drawn, everything, replayed, recording.mode))
            advance()
    count = min(trials, len(recording.trials))
    return Comparison(
        recording=recording,
        trials=count,
        repeats=repeats,
        workers=workers,
        seed=seed,
        schedulers={name: _figures(outcomes[name], count, recording.max_epochs) for name in names},
        outcomes=outcomes,
    )


def find_schedulers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the schedulers of these names, families resolved, each once and in order.

    Raises:
        InvalidInput: a name is unknown.
    """
    found: dict[str, None] = {}
    for name in map(str.strip, names):
        if name not in SCHEDULERS and name not in FAMILIES:
            raise unknown_name("scheduler", name, [*SCHEDULERS, *FAMILIES])
        found |= dict.fromkeys(FAMILIES.get(name, (name,)))
    return tuple(found)


def draw(
    trials: Sequence[RecordedTrial], count: int, seed: int, repeat: int
) -> list[RecordedTrial]:
    """Return `count` of the trials, or all if there are fewer, in the order of one repeat."""
    order = np.random.default_rng((seed, repeat)).permutation(len(trials))
    return [trials[index] for index in order[:count]]


def _simulate(
    name: str, drawn: Sequence[RecordedTrial], recording: Recording, workers: int, repeat: int
) -> Replayed:
    config = PruningConfig(target=recording.rotation_target, warmup_epochs=recording.warmup_epochs)
    policy = schedulers_judging_by(config)[name](recording.max_epochs, recording.mode, repeat)
    return simulate(drawn, policy, workers, recording.mode)


def _outcome(
    drawn: Sequence[RecordedTrial], everything: Replayed, replayed: Replayed, mode: Mode
) -> Outcome:
    trials = {trial.number: trial for trial in drawn}
    best, selected = (_selected(trials, outcome, mode) for outcome in (everything, replayed))
    sign = 1.0 if mode == "max" else -1.0
    return Outcome(
        epochs=replayed.total_epochs,
        best=best.number,
        selected=selected.number,
        best_kept=best.number in replayed.finished,
        val_loss=sign * (best.curve.metric[-1] - selected.curve.metric[-1]),
        test_loss=sign * (best.test_accuracy - selected.test_accuracy),
    )


def _selected(trials: Mapping[int, RecordedTrial], replayed: Replayed, mode: Mode) -> RecordedTrial:
    """Return the selected trial; if it diverges later, the next best trial that does not."""
    assert replayed.selected is not None  # something was started: every policy starts new trials
    chosen = trials[replayed.selected]
    if math.isfinite(chosen.curve.metric[-1]):
        return chosen
    others = [trial for trial in trials.values() if math.isfinite(trial.curve.metric[-1])]
    return max(
        others,
        key=lambda trial: _merit_at(trial, replayed.epochs[trial.number], mode),
        default=chosen,
    )


def _merit_at(trial: RecordedTrial, epoch: float, mode: Mode) -> float:
    """Return the last metric up to an epoch, with its sign such that more is better."""
    seen = [
        metric
        for at, metric in zip(trial.curve.epochs, trial.curve.metric, strict=True)
        if at <= epoch and is_whole(at)
    ]
    return feature(seen[-1] if seen else math.nan, mode)


def _figures(outcomes: Sequence[Outcome], trials: int, max_epochs: int) -> Figures:
    epochs_per_trial = float(np.mean([outcome.epochs for outcome in outcomes])) / trials
    known = [outcome for outcome in outcomes if math.isfinite(outcome.val_loss)]
    val_losses = [outcome.val_loss for outcome in known]
    val_mean, val_se = _mean_and_error(val_losses)
    test_mean, test_se = _mean_and_error([outcome.test_loss for outcome in known])
    return Figures(
        epochs_per_trial=epochs_per_trial,
        speedup=max_epochs / epochs_per_trial,
        val_loss_mean=val_mean,
        val_loss_se=val_se,
        val_loss_p90=float(np.percentile(val_losses, 90)) if known else math.nan,
        test_loss_mean=test_mean,
        test_loss_se=test_se,
        best_kept=float(np.mean([outcome.best_kept for outcome in known])) if known else math.nan,
    )


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, NaN without values, and its standard error, NaN below two values."""
    if not values:
        return math.nan, math.nan
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(error)


def _check(recording: Recording, trials: int, repeats: int, workers: int, seed: int) -> None:
    for name, value, least, remedy in (
        ("trials", trials, 2, "use 50 to compare as in a study of 50"),
        ("repeats", repeats, 1, "use 50 for small standard errors"),
        ("workers", workers, 1, "use 1 for one after the other"),
        ("seed", seed, 0, "use another for other draws"),
    ):
        if value < least:
            raise InvalidInput(f"{name} must be >= {least}, got {value}; {remedy}")
    whole = len(recording.trials)
    if whole < 2:
        raise InvalidInput(
            f"a replay needs at least 2 trials that reach the last epoch, {recording.name} has "
            f"{whole} of {whole + recording.partial}; record more trials without pruning"
        )
