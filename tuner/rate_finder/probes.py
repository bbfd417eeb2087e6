"""Short runs of one trial at constant rates, each from the same initialisation."""

from __future__ import annotations

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from trainables.base import RotationTrainable
from trainables.layca.optimizer import Layca
from trainables.training.loop import TrainingState
from trainables.training.optimizers import OPTIMIZERS, step_momentum
from tuner.errors import InvalidInput, unknown_name
from tuner.rate_finder.estimate import Probe, ProbeRuns
from tuner.rotation.layers import rotating_parameters
from tuner.rotation.rate import RateRelation

# Momentum and running averages have settled after this many steps.
_TRIED = 1000
# Settings that need a GPU, or several weights at once, are set back to these.
_AS_USUAL = {"foreach": None, "fused": None, "capturable": False}


def update_magnitudes(optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
    """Return the length of each of the first steps at a learning rate of 1, shape (steps,).

    SGD's steps become longer while its momentum builds up. RMSprop's steps become shorter while its
    average builds up.
    The lengths are measured on a separate weight under a constant gradient, with the settings of
    the first parameter group but without weight decay. The optimizer is not changed.
    """
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    group = optimizer.param_groups[0]
    usual = {key: value for key, value in _AS_USUAL.items() if key in group}
    alone = object.__new__(type(optimizer))
    alone.__dict__.update(optimizer.__dict__)
    alone.state = defaultdict(dict)
    alone.param_groups = [{**group, **usual, "params": [weight], "lr": 1.0, "weight_decay": 0.0}]
    places = [0.0]
    for _ in range(min(steps, _TRIED)):
        weight.grad = torch.ones_like(weight)
        alone.step()
        places.append(weight.item())
    lengths = np.abs(np.diff(places))
    return np.concatenate([lengths, np.full(steps - len(lengths), lengths[-1])])


# Under Layca, the rates for these distances are probed. One more probe shows which layers lag: its
# rate is at least `_ABOVE` times the last one, and high enough to turn a layer by `_TURNED`.
_DISTANCES = (0.3, 0.7, 0.95)
_ABOVE = 2.5
_TURNED = 0.6
_PROBES = len(_DISTANCES) + 1
# The learning rates to try, by optimizer; as in the included search spaces.
LR_RANGES: Mapping[str, tuple[float, float]] = {
    "sgd": (1e-3, 1.0),
    "adam": (1e-5, 0.03),
    "adamw": (1e-5, 0.03),
    "rmsprop": (1e-5, 0.01),
}
LAYCAS = tuple(name for name in OPTIMIZERS if name.startswith("layca"))
# All probes together take at most an epoch. More steps than these add no information.
_MOST_STEPS = 200
_REPORTS = 8


def run_probes(
    kind: type[RotationTrainable],
    config: Mapping[str, Any],
    lr_range: tuple[float, float] | None = None,
) -> ProbeRuns:
    """Train for a part of an epoch at each of a few rates, and return the reports.

    Args:
        kind: the trainable.
        config: the config of a whole run. The rates are for its schedule, warmup and number of
            epochs. Its `lr` and `final_distance` are not used.
        lr_range: the learning rates to try, for an optimizer other than Layca; by default those of
            `LR_RANGES`.

    Raises:
        InvalidInput: the config cannot be used, or no rate can be found for its optimizer. Or an
            epoch has fewer steps than there are probes, or cannot be trained in part.
    """
    begun = time.perf_counter()
    name = str(config.get("optimizer", "sgd"))
    check_findable(name)
    whole = {**config, "final_distance": None}
    trial = kind(config={**whole, "lr": 1.0})
    try:
        run = trial.training_state
        measured = tuple(run.monitor.measure())
        sets_rotation = _sets_rotation(run, name)
        shares, momentum = _shares(run, measured), step_momentum(run.optimizer.param_groups[0])
        steps, factors = len(run.batches), run.lr_factors
        if steps < _PROBES:
            raise InvalidInput(
                f"an epoch must have at least {_PROBES} steps, one for each probe, got {steps}; "
                "use a smaller batch_size"
            )
        length = min(steps // _PROBES, _MOST_STEPS)
        if sets_rotation:
            rates, lengths = _turning_rates(RateRelation(momentum), factors, length), None
        else:
            lengths = update_magnitudes(run.optimizer, len(factors))
            rates = _spread_rates(*(lr_range or LR_RANGES[name]))
        constant = {**whole, "schedule": "constant", "warmup_epochs": 0.0}
        probes = [
            _probe(trial, {**constant, "lr": rate}, run.initial_lrs, measured, length, steps)
            for rate in rates
        ]
    finally:
        trial.stop()  # type: ignore[no-untyped-call]
        shutil.rmtree(trial.logdir, ignore_errors=True)
    return ProbeRuns(
        layers=measured,
        shares=shares,
        momentum=momentum,
        factors=factors,
        steps_per_epoch=steps,
        probes=tuple(probes),
        seconds=time.perf_counter() - begun,
        lengths=lengths,
    )


def _turning_rates(relation: RateRelation, factors: Any, length: int) -> list[float]:
    rates = [relation.rate_for(distance, factors) for distance in _DISTANCES]
    turns = relation.rate_for(_TURNED, np.ones(length))
    return [*rates, min(1.0, max(_ABOVE * rates[-1], turns))]


def _spread_rates(low: float, high: float) -> list[float]:
    """Return the upper ends of equal parts of the range, on a log scale."""
    return [low * (high / low) ** (part / _PROBES) for part in range(1, _PROBES + 1)]


def check_findable(optimizer: str) -> None:
    """Check that a rate can be found for an optimizer.

    Raises:
        InvalidInput: the name is unknown, or no rate can be found for it.
    """
    known = [*LR_RANGES, *LAYCAS]
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, known)
    if optimizer not in known:
        raise InvalidInput(
            f"the optimizer must be one whose rate can be found, got {optimizer}; "
            f"use {', '.join(known)}"
        )


def _sets_rotation(run: TrainingState, name: str) -> bool:
    """Return whether the optimizer is Layca, as it must be if the config names one of Layca's."""
    optimizer = run.optimizer
    layca = optimizer if isinstance(optimizer, Layca) else None
    if name in LAYCAS and (layca is None or layca.rate is not None):
        raise InvalidInput(
            "build_optimizer must return a Layca that takes its rate from the config's lr, got "
            f"{type(optimizer).__name__}; leave it out for the optimizers of the config"
        )
    if layca and name not in LAYCAS:
        raise InvalidInput(
            f"build_optimizer must return no Layca for {name}; "
            "leave it out for the optimizers of the config"
        )
    return layca is not None


def _shares(run: TrainingState, layers: tuple[str, ...]) -> tuple[float, ...]:
    """Return each layer's rate if the config's `lr` is 1; 0 for a layer that is held fixed."""
    optimizer = run.optimizer
    times = optimizer.multiplier if isinstance(optimizer, Layca) else lambda parameter: 1.0
    rates = {
        parameter: initial * times(parameter)
        for group, initial in zip(optimizer.param_groups, run.initial_lrs, strict=True)
        for parameter in group["params"]
    }
    of_name = rotating_parameters(run.model)
    return tuple(rates.get(of_name[layer], 0.0) for layer in layers)


def _probe(
    trial: RotationTrainable,
    config: dict[str, Any],
    units: list[float],
    layers: tuple[str, ...],
    length: int,
    steps: int,
) -> Probe:
    """Train for `length` of an epoch's steps from the initialisation, or until the loss diverges.

    `units` are the groups' learning rates if the config's is 1.
    """
    # Report i of k comes after step ceil(i * steps / k), so at least `_REPORTS` come in time.
    reports = min(steps, -(-_REPORTS * steps // length))
    trial.reset_config({**config, "reports_per_epoch": reports})
    done, losses, distances = [], [], []
    run = trial.training_state
    if config["lr"] != 1 and run.initial_lrs == units:
        raise InvalidInput(
            "build_optimizer must take its learning rate from the config's lr, got "
            f"{units[0]:g} at each; leave it out for the optimizers of the config"
        )
    for _ in range(length * reports // steps):
        report = trial.train()  # type: ignore[no-untyped-call]
        position = run.position
        if position.epoch and length < steps:
            raise InvalidInput(
                "train_epoch must take its batches from training_batches, so that a part of an "
                "epoch can be trained, got a whole epoch; or choose the rate by trials"
            )
        done.append(position.step)
        losses.append(float(report["train_loss"]))
        distances.append(tuple(float(report[f"rotation/{layer}"]) for layer in layers))
        if not math.isfinite(losses[-1]):
            break
    return Probe(config["lr"], tuple(done), tuple(losses), tuple(distances))
