"""TrainingState: the state of a trial in training, and the steps at which it reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.distributed.data_parallel import (
    SINGLE_PROCESS,
    DataParallelModel,
    DataShard,
    StepReport,
    StepSync,
    weight_norm,
)
from trainables.training.config import Settings
from trainables.training.data import Batches, Data
from trainables.training.optimizers import step_momentum
from trainables.training.plain_state import plain_state
from trainables.training.precision import Precision
from trainables.training.randomness import random_state, restore_random_state, seed_apart
from trainables.training.schedules import lr_factors, lr_spent
from tuner.rotation import RotationMonitor
from tuner.rotation.rate import RateRelation

DEFAULT_FIRST, DEFAULT_LATER = 4, 1

# An extra report costs one measurement of the rotation. Measured on one CPU thread at batches of
# 128, a measurement against the first epoch: fashion-cnn, 6,000 samples, 0.8 ms in 1,930 ms;
# mnist-mlp, 4,000 samples, 0.6 ms in 80 ms; digits-mlp, 1,197 samples, 0.2 ms in 5 ms. So
# fashion-cnn can have three extra reports (0.12 %), mnist-mlp one (0.7 %; two would cost 1.5 %),
# digits-mlp none (4 %). `MIN_SAMPLES` gives exactly these numbers. `MIN_STEPS` limits batches so
# large that a sample takes less time than it did here.
MIN_SAMPLES = 1400
MIN_STEPS = 10


def reports_in_epoch(
    requested: int | Sequence[int] | None, epoch: int, steps: int, samples: int
) -> int:
    """Return how many reports an epoch makes, from 1 to its number of steps.

    The number never depends on the clock: the same arguments always give the same reports.

    Args:
        requested: the number for every epoch, or a pair (first epoch, each later epoch). None
            means 1, and in the first epoch as many as are cheap, up to 4.
        epoch: the number of the epoch, from 0.
        steps: steps of an epoch, >= 1.
        samples: samples of an epoch, >= 1.

    Example:
        >>> [reports_in_epoch(None, epoch, steps=47, samples=6000) for epoch in (0, 1)]
        [4, 1]
    """
    if requested is not None:
        first, later = requested if isinstance(requested, Sequence) else (requested, requested)
    else:
        first = min(DEFAULT_FIRST, steps // MIN_STEPS, samples // MIN_SAMPLES)
        later = DEFAULT_LATER
    return max(1, min(later if epoch else first, steps))


def next_report_step(step: int, steps: int, reports: int) -> int:
    """Return the step of an epoch after which the next report comes.

    Report i of k comes after step ceil(i * steps / k).

    Args:
        step: finished steps, in [0, steps).
        steps: steps of the epoch.
        reports: reports of the epoch.

    Returns:
        A number in (step, steps].
    """
    reported = step * reports // steps
    return -(-(reported + 1) * steps // reports)


@dataclass(frozen=True)
class Position:
    """The position of a run: its epoch, and its step within the epoch."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Steps done in the current epoch; 0 if the last report was at an epoch's end."""
    samples: int = 0
    """Samples of the current epoch that `train_loss` is the mean of."""
    train_loss: float = float("nan")
    """Mean loss of the current epoch so far, or of the whole last epoch if `step` is 0."""

    def after(self, step: int, steps: int, samples: int, train_loss: float) -> Position:
        """Return the position at the next report.

        Args:
            step: finished steps of the epoch.
            steps: steps of the epoch.
            samples: samples trained since the last report.
            train_loss: the mean loss over these samples.
        """
        total = self.samples + samples
        if self.samples:
            train_loss = (self.train_loss * self.samples + train_loss * samples) / total
        if step == steps:
            return Position(self.epoch + 1, train_loss=train_loss)
        return Position(self.epoch, step, total, train_loss)


CHECKPOINT_FILE = "model.pt"


@dataclass
class TrainingState:
    """The model, optimizer, data and position of one trial, in one process.

    A run is a sequence of intervals, each of which ends with a report. For each interval call
    `begin_interval`, train on `batches_until_report()` with `optimize`, then `finish_interval`.
    """

    settings: Settings
    data: Data
    model: nn.Module
    optimizer: Optimizer
    monitor: RotationMonitor
    precision: Precision
    shuffle: torch.Generator
    """Draws the order of the samples."""
    batches: Batches
    shard: DataShard = SINGLE_PROCESS
    data_parallel: DataParallelModel | None = None
    """Averages the gradients, if several processes train the model."""
    position: Position = field(default_factory=Position)
    initial_lrs: list[float] = field(init=False)
    """The learning rate of each parameter group, which the schedule multiplies."""
    lr_factors: NDArray[np.float64] = field(init=False)
    """The schedule: the factor of each step of the run."""
    lr_spent: NDArray[np.float64] = field(init=False)
    """`lr_progress` after each step of the run."""
    _order: Tensor | None = field(init=False, default=None)
    """The sample numbers of the current epoch, once a batch of it was requested."""
    _order_state: Tensor | None = field(init=False, default=None)
    """The state of `shuffle` from which `_order` was drawn."""
    _samples: int = field(init=False, default=0)
    """Samples that this interval has yielded."""
    _weight: float = field(init=False, default=1.0)
    """The factor of the last batch's loss; see `DataShard.weight`."""

    def __post_init__(self) -> None:
        settings = self.settings
        steps = len(self.batches)
        self.lr_factors = lr_factors(
            settings.schedule,
            settings.max_epochs * steps,
            # A warmup that ends within the last epoch must leave a step of that epoch.
            min(round(settings.warmup_epochs * steps), settings.max_epochs * steps - 1),
            step_factor=settings.step_factor,
            step_at=settings.step_at,
        )
        self.lr_spent = lr_spent(self.lr_factors)
        if settings.final_distance is not None:
            for group in self.optimizer.param_groups:
                relation = RateRelation(step_momentum(group))
                group["lr"] = relation.rate_for(settings.final_distance, self.lr_factors)
        # Separate from the optimizer: every step overwrites the optimizer's values, and a
        # checkpoint may hold those of another learning rate.
        self.initial_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def done(self) -> bool:
        """Whether the last epoch is finished."""
        return self.position.epoch >= self.settings.max_epochs

    @property
    def within_epoch(self) -> bool:
        """Whether the last report was within an epoch."""
        return self.position.step > 0

    def join_processes(self, steps: StepSync) -> None:
        """Average the gradients with the other processes, which must call this at the same time.

        Args:
            steps: the step counter of this process.
        """
        if self.shard.rank:
            # Rank 0 keeps the generators with which it has drawn the weights. The other processes
            # need different noise.
            seed_apart(self.settings.seed, self.shard.rank)
        self.data_parallel = DataParallelModel(self.model, steps, self.settings.compile)

    def begin_interval(self) -> None:
        """Prepare for the steps until the next report."""
        self.model.train()
        self._set_lr(self.position.step)
        self._samples, self._weight = 0, 1.0

    def batches_until_report(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (inputs, targets) until the next report; set the learning rate for each."""
        if self._order is None:
            self._order_state = self.shuffle.get_state()
            self._order = self.batches.order.draw()
        size = self.settings.batch_size
        steps = range(self.position.step, self._report_step())
        numbers = self._order[steps.start * size : steps.stop * size]
        batch_sizes = map(len, torch.split(numbers, size))
        for step, batch_size, batch in zip(
            steps, batch_sizes, self.batches.load(numbers, self.shard), strict=True
        ):
            self._set_lr(step)
            self._samples += len(batch[1])
            self._weight = self.shard.weight(batch_size)
            yield batch

    def optimize(self, loss: Tensor) -> None:
        """Take one optimizer step that reduces the mean loss of this process's shard."""
        self.precision.step(loss if self._weight == 1 else loss * self._weight, self.optimizer)

    def step_report(self, train_loss: float) -> StepReport:
        """Return this process's report of the interval, given its mean loss."""
        norm = weight_norm(self.model) if self.data_parallel else 0.0
        return StepReport(train_loss, self._samples, norm)

    def finish_interval(self, train_loss: float, samples: int) -> None:
        """Move to the end of the interval.

        The position moves even if not all batches were used. If none was used, the model was
        trained in another way, and the epoch is over.

        Args:
            train_loss: the mean loss over all processes.
            samples: the samples of all processes.
        """
        if self.data_parallel:
            self.data_parallel.sync_buffers()
        steps = len(self.batches)
        end = self._report_step() if samples else steps
        self.position = self.position.after(end, steps, samples, train_loss)
        if not self.within_epoch:
            self._order = None

    def _report_step(self) -> int:
        steps = len(self.batches)
        reports = reports_in_epoch(
            self.settings.reports_per_epoch,
            self.position.epoch,
            steps,
            self.batches.order.kept,
        )
        return next_report_step(self.position.step, steps, reports)

    def _set_lr(self, step_of_epoch: int) -> None:
        factor = float(self.lr_factors[self.position.epoch * len(self.batches) + step_of_epoch])
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * factor

    def progress(self) -> dict[str, float]:
        """Return `progress` and `lr_progress`; at least one interval must be finished."""
        done = self.position.epoch * len(self.batches) + self.position.step
        return {
            "progress": done / len(self.lr_spent),
            "lr_progress": float(self.lr_spent[done - 1]),
        }

    def random_state(self) -> dict[str, Any]:
        """Return the state of this process's generators, from which the run can continue."""
        state = random_state(self.shuffle, self.precision.device)
        if self._order is not None:
            # The order can be drawn again; the generator's state is smaller than the order.
            state["shuffle"] = self._order_state
        return state

    def save(
        self, folder: str, random_states: Sequence[dict[str, Any]], extra: Mapping[str, Any]
    ) -> None:
        """Write the checkpoint `model.pt`, which `torch.load` can read with `weights_only`.

        Args:
            folder: the folder to write to.
            random_states: `random_state()` of every process, by rank.
            extra: the trainable's own state.

        Raises:
            InvalidInput: a state holds an object that a checkpoint cannot hold.
        """
        state: dict[str, Any] = {
            "model": plain_state(self.model.state_dict(), "the model's state"),
            "optimizer": plain_state(self.optimizer.state_dict(), "the optimizer's state"),
            "scaler": self.precision.scaler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "position": asdict(self.position),
            "batch_size": self.settings.batch_size,
            "rng": random_states[0],
            "rng_of_others": list(random_states[1:]),
            "extra": plain_state(extra, "the extra state"),
        }
        torch.save(state, Path(folder, CHECKPOINT_FILE))

    def load(self, folder: str) -> dict[str, Any]:
        """Continue from the checkpoint in a folder, and return the trainable's own state.

        With another batch size the run continues with the batch that holds the next sample. With
        more processes than before, the new ones draw from new seeds.
        """
        # On the CPU: the states of the generators must stay there, and the rest is copied anyway.
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
        rank = self.shard.rank
        own_state = states[rank] if rank < len(states) else states[0]
        restore_random_state(own_state, self.shuffle, self.precision.device)
        if rank >= len(states):
            seed_apart(self.settings.seed, rank, self.position.epoch, self.position.step)
        extra: dict[str, Any] = state.get("extra", {})
        return extra

    def close(self) -> None:
        """Stop averaging the gradients with other processes."""
        if self.data_parallel:
            self.data_parallel.detach()
            self.data_parallel = None
