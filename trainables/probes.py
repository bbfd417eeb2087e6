"""Short runs of one trial at constant rates of rotation, each from the same initialisation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.base import RotationTrainable
from trainables.layca import Layca
from trainables.optimizers import step_momentum
from trainables.run import Run
from tuner.errors import InvalidInput
from tuner.rotation.finding import Probe, Probed
from tuner.rotation.layers import kernels
from tuner.rotation.rate import RateRelation

# The distances whose rates are probed. One probe more is above the last of them by `_ABOVE` at
# least, and high enough to turn a layer so far before the probe ends: that shows which lag.
_DISTANCES = (0.3, 0.7, 0.95)
_ABOVE = 2.5
_TURNED = 0.6
_PROBES = len(_DISTANCES) + 1
# All probes together take an epoch at most; more steps than these say no more.
_MOST_STEPS = 200
_REPORTS = 8


def run_probes(kind: type[RotationTrainable], config: Mapping[str, Any]) -> Probed:
    """Train for a part of an epoch at each of a few rates, and return what that shows.

    Args:
        kind: what is trained.
        config: of a whole run under Layca; its schedule, its warmup and its number of epochs are
            what the rates are for. Its `lr` or `final_distance` does not count.

    Raises:
        InvalidInput: the config cannot be used, its optimizer is none of Layca's, or an epoch has
            fewer steps than there are probes, or cannot be trained in part.
    """
    begun = time.perf_counter()
    whole = {**config, "final_distance": None}
    trial = kind(config={**whole, "lr": 1.0})
    try:
        run = trial._started()
        measured = tuple(run.monitor.measure())
        shares, momentum = _shares(run, measured), step_momentum(run.optimizer.param_groups[0])
        steps, factors = len(run.batches), run.lr_factors
        if steps < _PROBES:
            raise InvalidInput(
                f"an epoch must have at least {_PROBES} steps, one for each probe, got {steps}; "
                "use a smaller batch_size"
            )
        length = min(steps // _PROBES, _MOST_STEPS)
        constant = {**whole, "schedule": "constant", "warmup_epochs": 0.0}
        probes = [
            _probe(trial, {**constant, "lr": rate}, measured, length, steps)
            for rate in _rates(RateRelation(momentum), factors, length)
        ]
    finally:
        trial.stop()  # type: ignore[no-untyped-call]
        shutil.rmtree(trial.logdir, ignore_errors=True)
    return Probed(
        layers=measured,
        shares=shares,
        momentum=momentum,
        factors=factors,
        steps_per_epoch=steps,
        probes=tuple(probes),
        seconds=time.perf_counter() - begun,
    )


def _rates(relation: RateRelation, factors: Any, length: int) -> list[float]:
    rates = [relation.rate_for(distance, factors) for distance in _DISTANCES]
    turns = relation.rate_for(_TURNED, np.ones(length))
    return [*rates, min(1.0, max(_ABOVE * rates[-1], turns))]


def _shares(run: Run, layers: tuple[str, ...]) -> tuple[float, ...]:
    """Return each layer's rate of rotation in a run whose config's `lr` is 1."""
    optimizer = run.optimizer
    if not isinstance(optimizer, Layca) or optimizer.rate is not None:
        raise InvalidInput(
            "build_optimizer must return a Layca that takes its rate from the config's lr, got "
            f"{type(optimizer).__name__}; leave it out for the optimizers of the config"
        )
    rates = {
        parameter: initial * optimizer.multiplier(parameter)
        for group, initial in zip(optimizer.param_groups, run.initial_lrs, strict=True)
        for parameter in group["params"]
    }
    of_name = kernels(run.model)
    return tuple(rates.get(of_name[layer], 0.0) for layer in layers)


def _probe(
    trial: RotationTrainable,
    config: dict[str, Any],
    layers: tuple[str, ...],
    length: int,
    steps: int,
) -> Probe:
    """Train for `length` of an epoch's steps, from the initialisation."""
    # Report i of k comes after ceil(i * steps / k): at least so many come in time.
    reports = min(steps, -(-_REPORTS * steps // length))
    trial.reset_config({**config, "reports_per_epoch": reports})
    done, losses, distances = [], [], []
    for _ in range(length * reports // steps):
        report = trial.train()  # type: ignore[no-untyped-call]
        position = trial._started().position
        if position.epoch and length < steps:
            raise InvalidInput(
                "train_epoch must take its batches from training_batches, so that a part of an "
                "epoch can be trained, got a whole epoch; or choose the rate by trials"
            )
        done.append(position.step)
        losses.append(float(report["train_loss"]))
        distances.append(tuple(float(report[f"rotation/{layer}"]) for layer in layers))
    return Probe(config["lr"], tuple(done), tuple(losses), tuple(distances))
