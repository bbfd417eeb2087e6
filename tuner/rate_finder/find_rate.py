"""find_rate: the rate for a job's final rotation, from a few short probes on the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import ray

from trainables.base import RotationTrainable
from tuner.engine.buffered_trainable import use_threads
from tuner.engine.resources import ClusterCapacity, ResourceRequest, may_have, request_of
from tuner.engine.session import ray_session
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.rate_finder.estimate import FoundRates, ProbeRuns
from tuner.rate_finder.probes import LAYCAS, check_findable, run_probes
from tuner.rotation.rate import check_distance
from tuner.study.initial_trials import find_rotation_parameter, first_config
from tuner.study.search_space import Range, Space, as_function, lr_range, probe_space

DEFAULT = "layca"
# Config keys that belong to the optimizer of the config, and to no other.
_OF_OPTIMIZER = (
    *("momentum", "nesterov", "weight_decay", "beta1", "beta2"),
    *("alpha", "layer_rates", "train_others"),
)
# Config keys that the job sets, or that the rate replaces.
_NOT_SHOWN = ("max_epochs", "seed", "data_dir", "lr", "final_distance")


def find_rate(
    job: TuningJob,
    *,
    optimizer: str | None = None,
    distance: float = 0.95,
    config: Mapping[str, Any] | None = None,
) -> FoundRates:
    """Return the rotation that each rate gives the hidden layers in a run of the job.

    Four probes run on the resources of a trial. Each takes at most a quarter of an epoch, starts
    from the same initialisation and has a constant rate. The rates are Layca's, or the learning
    rates of another optimizer, spread over the range that the space searches.

    Batch size, momentum, schedule and the other keys come from the first of these that exists:

    - the first trial of a study of the job, if its space searches the rotation of this optimizer
    - the first configuration with this optimizer that the space suggests
    - the first configuration, without the keys that belong to its own optimizer

    Args:
        job: the job; its trainable must be a `RotationTrainable`.
        optimizer: ``sgd``, ``adam``, ``adamw``, ``rmsprop`` or one of Layca's; by default the
            Layca of the space, or ``layca``.
        distance: the final distance that the hidden layers should reach, in (0, 1).
        config: keys of the configuration that replace the space's, for example `batch_size`.

    Raises:
        InvalidInput: the job cannot be probed, or fails to train.
    """
    check_distance(distance)
    if not isinstance(job.trainable, type) or not issubclass(job.trainable, RotationTrainable):
        raise InvalidInput(
            "find-rate must have a trainable whose rate it can set, got "
            f"{getattr(job.trainable, '__name__', job.trainable)}; make it a subclass of "
            "trainables.RotationTrainable"
        )
    if optimizer is not None:
        check_findable(optimizer)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = as_function(job.search_space)
    usual = str(job.trainable.defaults.get("optimizer", "sgd"))
    run = {**_config(job, space, optimizer, usual), **(config or {})}
    searched = lr_range(space, run["optimizer"], usual)
    with ray_session():
        probed = _probed(job, run, searched)
    shown = {key: value for key, value in run.items() if key not in _NOT_SHOWN}
    return FoundRates(probed, distance, job.rotation_target, shown)


def _config(job: TuningJob, space: Space, optimizer: str | None, usual: str) -> dict[str, Any]:
    """Return the configuration that the rates are for.

    A configuration without an optimizer is for `usual`.
    """
    wanted = LAYCAS if optimizer is None else (optimizer,)
    config: dict[str, Any] | None
    if (parameter := find_rotation_parameter(space, optimizer)) is not None:
        config = first_config(space, parameter)
    else:
        drawn = [config for _, config in probe_space(space)]
        config = next((each for each in drawn if each.get("optimizer", usual) in wanted), None)
        if config is None:
            config = {key: drawn[0][key] for key in drawn[0] if key not in _OF_OPTIMIZER}
            config["optimizer"] = optimizer or DEFAULT
        config.setdefault("optimizer", usual)
    given: dict[str, Any] = {"max_epochs": job.max_epochs, "seed": job.seed}
    if job.data_dir is not None:
        given["data_dir"] = str(Path(job.data_dir).expanduser().absolute())
    return {**given, **config}


class _Prober:
    """Runs the probes. It is an actor and not a task, like the process of a trial."""

    def probe(
        self, kind: type[RotationTrainable], config: Mapping[str, Any], searched: Range, cpus: float
    ) -> ProbeRuns:
        use_threads(cpus)
        return run_probes(kind, config, searched)


def _probed(job: TuningJob, config: Mapping[str, Any], searched: Range) -> ProbeRuns:
    asked = request_of(job)
    ClusterCapacity(asked, may_have()).check()
    actor: Any = ray.remote(_Prober).options(**_as_options(asked)).remote()
    try:
        found: ProbeRuns = ray.get(
            actor.probe.remote(job.trainable, config, searched, job.cpus_per_trial)
        )
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, InvalidInput):
            raise cause from error
        lines = str(cause).strip().splitlines() or [""]
        raise InvalidInput(
            f"a trial must train, {job.trainable.__name__} raised {type(cause).__name__}: "
            f"{lines[0]}; run it by itself: {job.trainable.__name__}(config={{...}}).train()"
        ) from error
    finally:
        ray.kill(actor)
    return found


def _as_options(asked: ResourceRequest) -> dict[str, Any]:
    """Return the options of the actor that request a trial's resources."""
    others = {
        name: amount
        for name, amount in asked.resources.items()
        if name not in ("CPU", "GPU", "memory")
    }
    return {
        "num_cpus": asked.resources.get("CPU", 0),
        "num_gpus": asked.resources.get("GPU", 0),
        "memory": asked.resources.get("memory") or None,
        "resources": others or None,
        "label_selector": dict(asked.labels) or None,
    }
