"""What of Ray Tune's own is replaced while a study runs.

Ray Tune has no setting for any of it: these are the names under which it finds the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager

from tuner.engine.deaths import ActorLost


class _ActorManager(RayActorManager):
    """An actor that is gone for a reason that Ray Tune does not know ends one trial, not all.

    It takes any error of a call to an actor but two for an error in itself, and raises it.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            exception = ActorLost(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


class _NoExperimentState(_ExperimentCheckpointManager):
    """Nothing is kept for `Tuner.restore`: a study is resumed from its storage.

    Ray Tune copies what it keeps in the background, and with it makes again the folders of a
    trial's parts that were removed meanwhile, or hinders that they are.
    """

    def sync_up_experiment_state(self, *_: Any, **__: Any) -> None:
        pass


class _NoAnalysis:
    """What `tune.run` returns: nothing is read from the files that are not kept."""

    def __init__(self, **_: Any) -> None:
        pass


_OURS = (
    (tune_controller, "RayActorManager", _ActorManager),
    (tune_controller, "_ExperimentCheckpointManager", _NoExperimentState),
    (import_module("ray.tune.tune"), "ExperimentAnalysis", _NoAnalysis),
)


@contextmanager
def our_controller() -> Iterator[None]:
    """Have Ray Tune use what is here for the runs that are started within."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _OURS]
    for each in _OURS:
        setattr(*each)
    try:
        yield
    finally:
        for each in before:
            setattr(*each)
