"""What one process of a trial trains on: its share of every batch, and how much that counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tuner.errors import InvalidInput

LEAST_SAMPLES = 2
"""Samples of a share; one alone cannot be batch-normalised."""

_SAME = 1e-4
"""Weights of the same steps differ by nothing; those of other steps soon by more than this."""


@dataclass(frozen=True)
class Share:
    """One process of those that train a trial together: `rank` in [0, `of`)."""

    rank: int = 0
    of: int = 1

    def take(self, batch: Tensor) -> Tensor:
        """Return this process's samples of a batch, sizes differing by one at most.

        A batch too small for `LEAST_SAMPLES` each is taken whole by every process, which comes to
        the same gradient.
        """
        if self.of == 1 or len(batch) < LEAST_SAMPLES * self.of:
            return batch
        return batch.tensor_split(self.of)[self.rank]

    def weight(self, batch_size: int) -> float:
        """Return what the mean over this share counts in a plain mean over the processes.

        With it, that mean is the one over the batch, whether or not it divides evenly.
        """
        if self.of == 1 or batch_size < LEAST_SAMPLES * self.of:
            return 1.0
        mine = batch_size // self.of + (self.rank < batch_size % self.of)
        return mine * self.of / batch_size


ALONE = Share()


@dataclass(frozen=True)
class Part:
    """What one process says of the steps that it has taken since the last report."""

    train_loss: float
    samples: int
    norm: float
    """Of all weights together; the same in every process, unless they do not train together."""


def norm_of(model: nn.Module) -> float:
    """Return the norm of all parameters together; NaN if one is not finite."""
    parameters = [parameter.detach() for parameter in model.parameters()]
    norms = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(parameters)])
    return float(norms.norm())


def merged(parts: Sequence[Part]) -> tuple[float, int]:
    """Return the mean loss of all processes' parts, and their samples.

    A batch that every process has taken whole counts once for each.

    Raises:
        InvalidInput: their weights differ, so that they have not trained one model.
    """
    first = parts[0]
    for rank, part in enumerate(parts):
        if not (math.isnan(first.norm) and math.isnan(part.norm)) and not math.isclose(
            first.norm, part.norm, rel_tol=_SAME
        ):
            raise InvalidInput(
                f"all {len(parts)} processes of a trial must have the same weights, got norms of "
                f"{first.norm:.6g} in process 0 and {part.norm:.6g} in process {rank}; "
                "in train_epoch, call self.model itself and not its parts"
            )
    samples = sum(part.samples for part in parts)
    if len(parts) == 1 or not samples:
        return sum(part.train_loss for part in parts) / len(parts), samples
    return sum(part.train_loss * part.samples for part in parts) / samples, samples


def check_processes(count: int, gpus: int | None, batch_size: int) -> None:
    """Refuse so many processes for a trial; `gpus` is how many it may use, None on a CPU.

    Raises:
        InvalidInput: there are fewer GPUs, or too few samples in a batch.
    """
    if gpus is not None and count > gpus:
        raise InvalidInput(
            f"processes must be <= {gpus}, the GPUs of the trial, got {count}; "
            f"reserve {count} with gpus_per_trial, or leave processes out for one on each GPU"
        )
    least = LEAST_SAMPLES * count
    if count > 1 and batch_size < least:
        raise InvalidInput(
            f"batch_size must be >= {least}, {LEAST_SAMPLES} samples for each of the {count} "
            f"processes, got {batch_size}; use a larger batch or fewer processes"
        )
