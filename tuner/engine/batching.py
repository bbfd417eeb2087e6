"""Reports that come faster than the driver wants them, handed over together."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from ray.tune import Trainable
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT
from ray.tune.trainable import FunctionTrainable, wrap_function

# A call to an actor and back costs some milliseconds; an epoch longer than this pays one as ever,
# and no trial trains longer than this past the report that prunes it (docs/log.md, 2026-11-23).
BATCH_S = 0.003


def batched(trainable: type[Trainable] | Callable[[dict[str, Any]], Any]) -> type[Trainable]:
    """Return the trainable as a class that answers one call with all reports of `BATCH_S`.

    Each report is still judged, in order; what follows the one that prunes the trial is dropped.
    Ray has such buffering, but its controller (2.60) hands `train_buffered` the length and the time
    in each other's place, so that either nothing is gathered or seconds are.
    """
    base: Any = trainable if isinstance(trainable, type) else wrap_function(trainable)

    class Batched(base):  # type: ignore[misc]
        __doc__ = base.__doc__

        _crash: Exception | None = None

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._crash = None
            reset: bool = super().reset_config(new_config)
            if reset or issubclass(base, FunctionTrainable):
                return reset
            # Ray gives up a trial whose class cannot be reset. Being set up anew is as good.
            self.cleanup()
            self.setup(copy.deepcopy(new_config))
            return True

        def train_buffered(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            if self._crash is not None:
                raise self._crash
            results: list[dict[str, Any]] = []
            until = time.monotonic() + BATCH_S
            while True:
                try:
                    results.append(self.train())
                except Exception as error:  # the trial's own; it is raised at the next call
                    if not results:
                        raise
                    # What was reported before counts: it may even have been pruned by then.
                    self._crash = error
                    return results
                last = results[-1]
                ends = any(last.get(key) for key in (DONE, SHOULD_CHECKPOINT, RESULT_DUPLICATE))
                if ends or time.monotonic() >= until:
                    return results

    Batched.__name__ = Batched.__qualname__ = base.__name__
    return Batched
