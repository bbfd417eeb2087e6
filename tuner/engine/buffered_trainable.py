"""Buffer the reports of a fast trainable: one call to its actor returns several."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

from ray.tune import Trainable
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT
from ray.tune.trainable import FunctionTrainable, wrap_function

from tuner.errors import InvalidInput
from tuner.rotation.halving import EPOCH_ROUNDING


def use_threads(cpus: float) -> None:
    """Make this process compute on `cpus` threads, rounded down, and on at least one.

    Ray also sets OMP_NUM_THREADS, unless the user's shell has set it. Torch reads the variable only
    once, so a process that has already computed needs this call.
    """
    threads = max(1, int(cpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # otherwise torch reads the variable when a trial imports it
        import torch

        torch.set_num_threads(threads)


# A call to an actor takes some milliseconds. An epoch that is longer than this is a separate call.
# No trial trains longer than this after the report that prunes it (docs/log.md, 2026-11-23).
BATCH_S = 0.003


def buffer_reports(
    trainable: type[Trainable] | Callable[[dict[str, Any]], Any],
    ends_at: Sequence[float] = (),
    epoch_of: Callable[[Mapping[str, Any]], float] = lambda result: result["training_iteration"],
    cpus: float = 1.0,
    refused: Callable[[], Exception | None] = lambda: None,
) -> type[Trainable]:
    """Return the trainable as a class that answers one call with all reports of `BATCH_S`.

    There is still a decision on each report, in order. The reports after a pruned trial's last one
    are dropped. Two kinds of report form a separate batch: the first report at or after each epoch
    in `ends_at`, and a report that requests a checkpoint. A checkpoint must not contain training
    without a decision, and the controller would continue to train for earlier reports of its batch.

    Ray has similar buffering. But its controller (2.60) swaps the length and the time in its call
    of `train_buffered`, so that it buffers either nothing or seconds.

    Args:
        trainable: a class or a function.
        ends_at: the epochs at which trials may pause.
        epoch_of: returns the finished epochs at a result.
        cpus: the CPUs that each trial reserves, which is its number of threads.
        refused: called in the trial's process. If it returns an error, the trial ends with it
            before it starts.
    """
    base: Any = trainable if isinstance(trainable, type) else wrap_function(trainable)

    class Buffered(base):  # type: ignore[misc]
        __doc__ = base.__doc__

        _crash: Exception | None = None
        _held: dict[str, Any] | None = None
        _epoch = 0.0
        _at_end = False
        _refused: Exception | None = None

        def setup(self, config: dict[str, Any], **fields: Any) -> None:
            # Raised here, the error would lose its type: Ray reports only a dead actor.
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
            # Ray fails a trial whose class cannot be reset. A new setup does the same.
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
                    result = _with_plain_numbers(self.train())
                except Exception as error:  # of the trial itself; the next call raises it
                    if not results:
                        raise
                    # The earlier reports count: one of them may prune the trial.
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
            """Whether a report requests a checkpoint, or is the first at one of `ends_at`."""
            before, self._epoch = self._epoch, epoch_of(result) + EPOCH_ROUNDING
            self._at_end = any(before < epoch <= self._epoch for epoch in ends_at)
            return self._at_end or bool(result.get(SHOULD_CHECKPOINT))

    Buffered.__name__ = Buffered.__qualname__ = base.__name__
    return Buffered


def _with_plain_numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result whose numbers Ray Tune can average; it would else end the whole run.

    Raises:
        InvalidInput: a number is complex, or too large for a float.
    """
    for key, value in result.items():
        if key == "config":  # Ray repeats it, and does not average it
            continue
        if isinstance(value, dict):
            result[key] = _with_plain_numbers(value)
        elif isinstance(value, Number) and not isinstance(value, bool | float):
            try:
                number = float(value)  # type: ignore[arg-type]  # some numbers cannot, see below
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidInput(
                    f"a report's {key} must be a real number that a float can hold, got the "
                    f"{type(value).__name__} {str(value)[:40]}; report a float or leave it out"
                ) from error
            if not isinstance(value, int):
                result[key] = number
    return result


def can_pause(trainable: Any) -> bool:
    """Whether a trial can continue from a checkpoint at any of its reports.

    A class can if it writes and reads checkpoints. A function cannot, because it alone chooses when
    to write one.
    """
    return (
        isinstance(trainable, type)
        and issubclass(trainable, Trainable)
        and not issubclass(trainable, FunctionTrainable)
        and trainable.save_checkpoint is not Trainable.save_checkpoint
        and trainable.load_checkpoint is not Trainable.load_checkpoint
    )
