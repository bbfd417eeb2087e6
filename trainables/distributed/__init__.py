"""Several processes that train one trial, each on its own GPU or on a share of the CPU cores.

Begin with `DistributedTrainable`: it starts the workers and calls a method in every process.
`WorkerGroup` owns the worker processes, which run `trainables.distributed.worker_main`.
`DataShard` and `data_parallel` divide the batches and average the gradients. This package does not
depend on how a trial trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
    from trainables.distributed.data_parallel import DataShard
    from trainables.distributed.trainable import DistributedTrainable
    from trainables.distributed.workers import WorkerGroup

__all__ = [
    "DataShard",
    "DistributedTrainable",
    "WorkerGroup",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "DataShard": "data_parallel",
        "DistributedTrainable": "trainable",
        "WorkerGroup": "workers",
    },
)
