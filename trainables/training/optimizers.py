"""Torch optimizers by name, built from the keys of a trial's config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from trainables.layca.layer_rates import alpha_rates, multipliers
from trainables.layca.optimizer import Layca, rotating_parameters_of

Get = Callable[[str, Any], Any]
Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]
Build = Callable[[Parameters, Get], Optimizer]


def _sgd(parameters: Parameters, get: Get) -> Optimizer:
    momentum = get("momentum", 0.9)
    return SGD(
        parameters,
        lr=get("lr", 0.1),
        momentum=momentum,
        # Torch refuses Nesterov's form without momentum, which is plain gradient descent.
        nesterov=get("nesterov", False) and momentum > 0,
        weight_decay=get("weight_decay", 0.0),
    )


def _adam(parameters: Parameters, get: Get) -> Optimizer:
    return Adam(
        parameters,
        lr=get("lr", 1e-3),
        betas=(get("beta1", 0.9), get("beta2", 0.999)),
        weight_decay=get("weight_decay", 0.0),
    )


def _adamw(parameters: Parameters, get: Get) -> Optimizer:
    return AdamW(
        parameters,
        lr=get("lr", 1e-3),
        betas=(get("beta1", 0.9), get("beta2", 0.999)),
        weight_decay=get("weight_decay", 0.01),
    )


def _rmsprop(parameters: Parameters, get: Get) -> Optimizer:
    return RMSprop(
        parameters,
        lr=get("lr", 1e-3),
        # RMSprop's smoothing constant is Adam's beta2.
        alpha=get("beta2", 0.99),
        momentum=get("momentum", 0.0),
        weight_decay=get("weight_decay", 0.0),
    )


def _adagrad(parameters: Parameters, get: Get) -> Optimizer:
    return Adagrad(parameters, lr=get("lr", 1e-2), weight_decay=get("weight_decay", 0.0))


def _layca(build: Build, rate: float) -> Build:
    """Return the function that builds Layca over an optimizer, with `rate` as the default lr."""

    def build_layca(parameters: Parameters, get: Get) -> Optimizer:
        own = {"lr": get("lr", rate), "weight_decay": 0.0}
        base = build(parameters, lambda key, default: own.get(key, get(key, default)))
        names = [name for group in base.param_groups for _, name in rotating_parameters_of(group)]
        by_position = alpha_rates(get("alpha", 0.0), max(len(names), 1))[: len(names)]
        by_name = multipliers(get("layer_rates", None), names)
        return Layca(
            base,
            layer_rates=[one * other for one, other in zip(by_position, by_name, strict=True)],
            others="train" if get("train_others", True) else "freeze",
        )

    return build_layca


OPTIMIZERS: Mapping[str, Build] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "layca": _layca(_sgd, 3**-3),
    "layca-adam": _layca(_adam, 3**-5),
    "layca-rmsprop": _layca(_rmsprop, 3**-3),
    "layca-adagrad": _layca(_adagrad, 3**-3),
}


def build_optimizer(parameters: Parameters, config: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer that a checked config names; the default is SGD.

    It reads `lr`, `momentum`, `nesterov`, `weight_decay`, `beta1` and `beta2`, and ignores the keys
    that the optimizer does not have. So one search space can serve several optimizers. The defaults
    are torch's own, except SGD's (lr 0.1, momentum 0.9).

    `layca`, `layca-adam`, `layca-rmsprop` and `layca-adagrad` rotate each layer by atan(lr) per
    step, in the direction of SGD, Adam, RMSprop or Adagrad. `lr` is also the rate of that optimizer
    for the other parameters. It is 3**-3 by default, and 3**-5 with Adam, as in the paper. These
    four read `alpha` (see `alpha_rates`, default 0), `layer_rates` (multipliers by layer name, see
    `multipliers`) and `train_others` (default true; false freezes biases and normalisation
    parameters). They ignore `weight_decay`, which the paper's algorithm does not have.

    Args:
        parameters: the parameters of the model. `layer_rates` needs `model.named_parameters()`.
        config: the checked config.

    Raises:
        InvalidInput: a pattern of `layer_rates` matches no layer.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> build_optimizer(model.named_parameters(), {"lr": 0.5}).param_groups[0]["lr"]
        0.5
    """
    trained: Any = [
        given
        for given in parameters
        if (given[1] if isinstance(given, tuple) else given).requires_grad
    ]
    return OPTIMIZERS[config.get("optimizer", "sgd")](trained, config.get)


def step_momentum(group: Mapping[str, Any]) -> float:
    """Return the share of the previous step's direction in an optimizer's step, in [0, 1).

    Args:
        group: one of the optimizer's parameter groups.
    """
    return float(group.get("momentum", group.get("betas", (0.0,))[0]))
