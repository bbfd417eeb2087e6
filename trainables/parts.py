"""The parts of an epoch: where a trial reports within it, and how far a run has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_FIRST, DEFAULT_LATER = 4, 1

# An extra report costs one measurement of the rotation. Measured on one CPU thread at batches of
# 128, a measurement and the first epoch that it has to be compared with: fashion-cnn, 6,000
# samples, 0.8 ms in 1,930 ms; mnist-mlp, 4,000 samples, 0.6 ms in 80 ms; digits-mlp, 1,197
# samples, 0.2 ms in 5 ms. So the first can have three extra reports (0.12 %), the second one
# (0.7 %; two would be 1.5 %), the third none (4 %). The least samples give just that; the least
# steps hold back batches so large that a sample takes less time than it did here.
LEAST_SAMPLES = 1400
LEAST_STEPS = 10


def reports_in_epoch(
    asked: int | Sequence[int] | None, epoch: int, steps: int, samples: int
) -> int:
    """Return how many reports an epoch makes, from 1 to its number of steps.

    Args:
        asked: the same number for every epoch, a pair (first epoch, each later one), or None for
            1, and in the first epoch for as many as are cheap, at most 4. It is never decided by
            the clock: the same numbers always give the same reports.
        epoch: counted from 0.
        steps: of an epoch, >= 1.
        samples: of an epoch, >= 1.
    """
    if asked is not None:
        first, later = asked if isinstance(asked, Sequence) else (asked, asked)
    else:
        first = min(DEFAULT_FIRST, steps // LEAST_STEPS, samples // LEAST_SAMPLES)
        later = DEFAULT_LATER
    return max(1, min(later if epoch else first, steps))


def part_end(step: int, steps: int, reports: int) -> int:
    """Return after how many steps of an epoch the next report comes, when `step` are done.

    Report i of k comes after ceil(i * steps / k); `step` in [0, steps), the result in
    (step, steps].
    """
    finished = step * reports // steps
    return -(-(finished + 1) * steps // reports)


@dataclass(frozen=True)
class Position:
    """How far a run has come: the finished epochs, and what is done of the one after them."""

    epoch: int = 0
    step: int = 0
    """Steps done of the unfinished epoch; 0 when the last report was at an epoch's end."""
    samples: int = 0
    """Samples that `train_loss` is the mean of, in the unfinished epoch."""
    train_loss: float = float("nan")
    """Mean over the unfinished epoch so far, or over the whole last one when `step` is 0."""

    def after(self, step: int, steps: int, samples: int, train_loss: float) -> Position:
        """Return the position at the end of a part: its last step, samples and mean loss."""
        total = self.samples + samples
        if self.samples:
            train_loss = (self.train_loss * self.samples + train_loss * samples) / total
        if step == steps:
            return Position(self.epoch + 1, train_loss=train_loss)
        return Position(self.epoch, step, total, train_loss)
