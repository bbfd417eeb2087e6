"""Torch optimizers by name, from the flat keys of a trial's config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from trainables.layca import Layca
from trainables.layer_rates import alpha_rates

Build = Callable[[Iterable[Tensor], Callable[[str, Any], Any]], Optimizer]


def _sgd(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    momentum = get("momentum", 0.9)
    return SGD(
        parameters,
        lr=get("lr", 0.1),
        momentum=momentum,
        # Torch refuses Nesterov's form of no momentum, which is plain gradient descent.
        nesterov=get("nesterov", False) and momentum > 0,
        weight_decay=get("weight_decay", 0.0),
    )


def _adam(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    return Adam(
        parameters,
        lr=get("lr", 1e-3),
        betas=(get("beta1", 0.9), get("beta2", 0.999)),
        weight_decay=get("weight_decay", 0.0),
    )


def _adamw(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    return AdamW(
        parameters,
        lr=get("lr", 1e-3),
        betas=(get("beta1", 0.9), get("beta2", 0.999)),
        weight_decay=get("weight_decay", 0.01),
    )


def _rmsprop(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    return RMSprop(
        parameters,
        lr=get("lr", 1e-3),
        # RMSprop's smoothing constant is what Adam calls beta2.
        alpha=get("beta2", 0.99),
        momentum=get("momentum", 0.0),
        weight_decay=get("weight_decay", 0.0),
    )


def _layca(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    momentum = get("momentum", 0.9)
    base = SGD(
        parameters,
        lr=get("lr", 3**-3),
        momentum=momentum,
        nesterov=get("nesterov", False) and momentum > 0,
    )
    return _turning(base, get)


def _layca_adam(parameters: Iterable[Tensor], get: Callable[[str, Any], Any]) -> Optimizer:
    base = Adam(
        parameters,
        lr=get("lr", 3**-5),
        betas=(get("beta1", 0.9), get("beta2", 0.999)),
    )
    return _turning(base, get)


def _turning(base: Optimizer, get: Callable[[str, Any], Any]) -> Layca:
    kernels = [p for group in base.param_groups for p in group["params"] if p.ndim >= 2]
    return Layca(
        base,
        layer_rates=alpha_rates(get("alpha", 0.0), max(len(kernels), 1)),
        others="train" if get("train_others", True) else "freeze",
    )


OPTIMIZERS: Mapping[str, Build] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "layca": _layca,
    "layca-adam": _layca_adam,
}


def build_optimizer(parameters: Iterable[Tensor], config: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer that a checked config names; SGD when it names none.

    Reads `lr`, `momentum`, `nesterov`, `weight_decay`, `beta1` and `beta2`, as far as the
    optimizer has them; the others are ignored, so that one flat space can serve several
    optimizers. Defaults are torch's own, but for SGD's (lr 0.1, momentum 0.9).

    `layca` and `layca-adam` turn each layer by atan(lr) a step in the direction of SGD or Adam,
    whose own rate for the other parameters is `lr` too; defaults 3**-3 and 3**-5, the paper's.
    They read `alpha`, the rule for the layers' rates (see `alpha_rates`, default 0), and
    `train_others` (default true; false freezes biases and normalisation parameters), and no
    `weight_decay`, which the paper's algorithm has none of.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return OPTIMIZERS[config.get("optimizer", "sgd")](trained, config.get)
