"""TrainingState: what a trial holds while it trains, and where within an epoch it reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.distributed.data_parallel import ALONE, DataShard, SharedModel, StepReport, norm_of
from trainables.training.config import Settings
from trainables.training.data import Batches, Data
from trainables.training.optimizers import step_momentum
from trainables.training.precision import Precision
from trainables.training.randomness import random_state, restore_random_state, seed_apart
from trainables.training.schedules import lr_factors, lr_spent
from tuner.rotation import RotationMonitor
from tuner.rotation.rate import RateRelation

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


CHECKPOINT_FILE = "model.pt"


@dataclass
class TrainingState:
    """One trial's model and everything that trains it."""

    settings: Settings
    data: Data
    model: nn.Module
    optimizer: Optimizer
    monitor: RotationMonitor
    precision: Precision
    shuffle: torch.Generator
    batches: Batches
    share: DataShard = ALONE
    shared: SharedModel | None = None
    """What joins the model to those of the trial's other processes, once all have one."""
    position: Position = field(default_factory=Position)
    initial_lrs: list[float] = field(init=False)
    lr_factors: NDArray[np.float64] = field(init=False)
    lr_spent: NDArray[np.float64] = field(init=False)
    _order: Tensor | None = field(init=False, default=None)
    """The sample numbers of the epoch begun, once a batch of it was asked for."""
    _drawn_from: Tensor | None = field(init=False, default=None)
    """The state of `shuffle` that `_order` was drawn from."""
    _samples: int = field(init=False, default=0)
    """Samples that the part begun has yielded."""
    _weight: float = field(init=False, default=1.0)
    """What this process's share of the last batch counts."""

    def __post_init__(self) -> None:
        settings = self.settings
        steps = len(self.batches)
        self.lr_factors = lr_factors(
            settings.schedule,
            settings.max_epochs * steps,
            # A warmup that ends within the last epoch must leave that epoch a step.
            min(round(settings.warmup_epochs * steps), settings.max_epochs * steps - 1),
            step_factor=settings.step_factor,
            step_at=settings.step_at,
        )
        self.lr_spent = lr_spent(self.lr_factors)
        if settings.final_distance is not None:
            for group in self.optimizer.param_groups:
                relation = RateRelation(step_momentum(group))
                group["lr"] = relation.rate_for(settings.final_distance, self.lr_factors)
        # Kept apart from the optimizer: its own values are overwritten at every step, and by a
        # checkpoint that another learning rate may have written.
        self.initial_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def done(self) -> bool:
        """Whether the last epoch is finished."""
        return self.position.epoch >= self.settings.max_epochs

    @property
    def within_epoch(self) -> bool:
        """Whether the last part ended before its epoch did."""
        return self.position.step > 0

    def join(self) -> None:
        """Train as one with the trial's other processes, which must all do so now."""
        if self.share.rank:
            # Other noise than process 0's, which has gone on from drawing the weights.
            seed_apart(self.settings.seed, self.share.rank)
        self.shared = SharedModel(self.model, self.settings.compile)

    def begin_part(self) -> None:
        """Make ready for the steps until the next report."""
        self.model.train()
        self._set_lr(self.position.step)
        self._samples, self._weight = 0, 1.0

    def part(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (inputs, targets) until the next report, with the learning rate set."""
        if self._order is None:
            self._drawn_from = self.shuffle.get_state()
            self._order = self.batches.order.draw()
        size = self.settings.batch_size
        steps = range(self.position.step, self._part_end())
        numbers = self._order[steps.start * size : steps.stop * size]
        sizes = map(len, torch.split(numbers, size))
        for step, whole, batch in zip(
            steps, sizes, self.batches.cut(numbers, self.share), strict=True
        ):
            self._set_lr(step)
            self._samples += len(batch[1])
            self._weight = self.share.weight(whole)
            yield batch

    def optimize(self, loss: Tensor) -> None:
        """Take a step down the gradient of the mean loss of this process's share of a batch."""
        self.precision.step(loss if self._weight == 1 else loss * self._weight, self.optimizer)

    def trained(self, train_loss: float) -> StepReport:
        """Return what this process has done of the part, at the mean loss that is given."""
        return StepReport(train_loss, self._samples, norm_of(self.model) if self.shared else 0.0)

    def finish_part(self, train_loss: float, samples: int) -> None:
        """Move to the end of the part, whose mean loss and samples are given, of all processes.

        It is however much of it was used. When none of it was, the model was trained in some way
        of its own: the epoch is over.
        """
        if self.shared:
            self.shared.steps.restart()
            self.shared.settle()
        steps = len(self.batches)
        end = self._part_end() if samples else steps
        self.position = self.position.after(end, steps, samples, train_loss)
        if not self.within_epoch:
            self._order = None

    def _part_end(self) -> int:
        steps = len(self.batches)
        reports = reports_in_epoch(
            self.settings.reports_per_epoch,
            self.position.epoch,
            steps,
            self.batches.order.kept,
        )
        return part_end(self.position.step, steps, reports)

    def _set_lr(self, step_of_epoch: int) -> None:
        factor = float(self.lr_factors[self.position.epoch * len(self.batches) + step_of_epoch])
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * factor

    def clocks(self) -> dict[str, float]:
        """Return `progress` and `lr_progress` after the parts so far, of which there is one."""
        done = self.position.epoch * len(self.batches) + self.position.step
        return {
            "progress": done / len(self.lr_spent),
            "lr_progress": float(self.lr_spent[done - 1]),
        }

    def random_state(self) -> dict[str, Any]:
        """Return the state of this process's generators, from which the run can go on."""
        state = random_state(self.shuffle, self.precision.device)
        if self._order is not None:
            # To be drawn again, which is smaller than the order itself.
            state["shuffle"] = self._drawn_from
        return state

    def save(self, folder: str, others: Sequence[dict[str, Any]] = ()) -> None:
        """Write `model.pt` in `folder`: tensors and plain values, for `weights_only` loading.

        `others` are the random states of the trial's other processes.
        """
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "position": asdict(self.position),
            "batch_size": self.settings.batch_size,
            "rng": self.random_state(),
            "rng_of_others": list(others),
        }
        torch.save(state, Path(folder, CHECKPOINT_FILE))

    def load(self, folder: str) -> None:
        """Continue from what `save` wrote, as if the run had never stopped.

        A run of another batch size goes on within an epoch from the batch that holds the next
        sample of the saved one. One of more processes than the saved one seeds what the others
        draw; what they drew does not count for one of fewer.
        """
        # On the CPU first: the generators' states must stay there, the rest is copied anyway.
        state = torch.load(Path(folder, CHECKPOINT_FILE), map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        position = Position(**state["position"])
        step = position.step * state["batch_size"] // self.settings.batch_size
        self.position = replace(position, step=min(step, len(self.batches) - 1))
        self._order = None
        states = [state["rng"], *state.get("rng_of_others", ())]
        rank = self.share.rank
        known = states[rank] if rank < len(states) else states[0]
        restore_random_state(known, self.shuffle, self.precision.device)
        if rank >= len(states):
            seed_apart(self.settings.seed, rank, self.position.epoch, self.position.step)

    def close(self) -> None:
        """Let go of what joins the model to those of other processes."""
        if self.shared:
            self.shared.close()
            self.shared = None
