"""Buffer the reports of a fast trainable, so that one call to its actor returns several."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune import Trainable
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT
from ray.tune.trainable import FunctionTrainable, wrap_function

from tuner.rotation.halving import EPOCH_ROUNDING


def use_threads(cpus: float) -> None:
    """Have this process compute on `cpus` threads, rounded down, and on one at least.

    Ray sets OMP_NUM_THREADS alike, but not where the user's shell has set it, for a machine whose
    trials were one; and torch reads it once, so not in a process that has computed before.
    """
    threads = max(1, int(cpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # else it reads the variable when a trial imports it
        import torch

        torch.set_num_threads(threads)


# A call to an actor and back costs some milliseconds; an epoch longer than this pays one as ever,
# and no trial trains longer than this past the report that prunes it (docs/log.md, 2026-11-23).
BATCH_S = 0.003


def buffer_reports(
    trainable: type[Trainable] | Callable[[dict[str, Any]], Any],
    ends_at: Sequence[float] = (),
    epoch_of: Callable[[Mapping[str, Any]], float] = lambda result: result["training_iteration"],
    cpus: float = 1.0,
    refused: Callable[[], Exception | None] = lambda: None,
) -> type[Trainable]:
    """Return the trainable as a class that answers one call with all reports of `BATCH_S`.

    Each report is still judged, in order; what follows the one that prunes the trial is dropped.
    The first report at or after each epoch in `ends_at`, where the trial may pause, is handed over
    by itself, as is one that asks for a checkpoint: what is written then must hold no more than has
    been judged, and the controller trains on for the reports before it in a batch while it has the
    checkpoint written. `epoch_of` says how many epochs had been finished at a report. Each trial
    computes on as many threads as it reserves `cpus`. What `refused` returns in a trial's process
    ends the trial before anything of it runs.

    Ray has such buffering, but its controller (2.60) hands `train_buffered` the length and the time
    in each other's place, so that either nothing is gathered or seconds are.
    """
    base: Any = trainable if isinstance(trainable, type) else wrap_function(trainable)

    class Batched(base):  # type: ignore[misc]
        __doc__ = base.__doc__

        _crash: Exception | None = None
        _held: dict[str, Any] | None = None
        _epoch = 0.0
        _at_end = False
        _refused: Exception | None = None

        def setup(self, config: dict[str, Any], **fields: Any) -> None:
            # Raised from here it would lose its kind: Ray says only that the actor died.
            self._refused = refused()
            if self._refused:
                return
            use_threads(cpus)
            super().setup(config, **fields)

        def restore(self, *checkpoint: Any, **fields: Any) -> Any:
            if self._refused:
                raise self._refused
            return super().restore(*checkpoint, **fields)

        def cleanup(self) -> None:
            if self._refused is None:
                super().cleanup()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._crash, self._held, self._epoch = None, None, 0.0
            reset: bool = super().reset_config(new_config)
            if reset or issubclass(base, FunctionTrainable):
                return reset
            # Ray gives up a trial whose class cannot be reset. Being set up anew is as good.
            self.cleanup()
            self.setup(copy.deepcopy(new_config))
            return True

        def train_buffered(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            if self._refused:
                raise self._refused
            if self._held is not None:
                held, self._held = self._held, None
                return [held]
            if self._crash is not None:
                raise self._crash
            results: list[dict[str, Any]] = []
            until = time.monotonic() + BATCH_S
            while True:
                try:
                    result = self.train()
                except Exception as error:  # the trial's own; it is raised at the next call
                    if not results:
                        raise
                    # What was reported before counts: it may even have been pruned by then.
                    self._crash = error
                    return results
                if self._may_be_saved_at(result) and results:
                    self._held = result
                    return results
                results.append(result)
                ends = any(result.get(key) for key in (DONE, SHOULD_CHECKPOINT, RESULT_DUPLICATE))
                if ends or self._at_end or time.monotonic() >= until:
                    return results

        def _may_be_saved_at(self, result: dict[str, Any]) -> bool:
            """Whether a report asks for a checkpoint, or is the first at one of `ends_at`."""
            before, self._epoch = self._epoch, epoch_of(result) + EPOCH_ROUNDING
            self._at_end = any(before < epoch <= self._epoch for epoch in ends_at)
            return self._at_end or bool(result.get(SHOULD_CHECKPOINT))

    Batched.__name__ = Batched.__qualname__ = base.__name__
    return Batched


def can_pause(trainable: Any) -> bool:
    """Whether a trial can go on from a checkpoint made at any of its reports.

    A class can if it writes and reads them. A function cannot: it writes them when it likes.
    """
    return (
        isinstance(trainable, type)
        and issubclass(trainable, Trainable)
        and not issubclass(trainable, FunctionTrainable)
        and trainable.save_checkpoint is not Trainable.save_checkpoint
        and trainable.load_checkpoint is not Trainable.load_checkpoint
    )
