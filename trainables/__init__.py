"""What is trained: Ray Tune trainables that report each layer's rotation every epoch.

Names are handed on lazily, so that listing the trainables does not load torch and Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tuner.errors import unknown_name

if TYPE_CHECKING:
    from trainables.base import RotationTrainable
    from trainables.layca.layer_rates import alpha_rates
    from trainables.layca.optimizer import Layca
    from trainables.tasks.basic import DigitsMlp, FashionCnn, MnistMlp
    from trainables.tasks.paper import (
        C10Cnn1,
        C10Cnn1Small,
        C10Cnn2,
        C10Cnn2Small,
        C100Resnet,
        C100ResnetSmall,
        C100Wrn,
        C100WrnSmall,
        MnistFeatures,
        MnistFeaturesSmall,
        TinyCnn,
        TinyCnnSmall,
        WarmupResnet,
        WarmupResnetSmall,
    )
    from trainables.training.data import Data

__all__ = [
    "PAPER_TASKS",
    "SCALES",
    "TRAINABLES",
    "C10Cnn1",
    "C10Cnn1Small",
    "C10Cnn2",
    "C10Cnn2Small",
    "C100Resnet",
    "C100ResnetSmall",
    "C100Wrn",
    "C100WrnSmall",
    "Data",
    "DigitsMlp",
    "FashionCnn",
    "Layca",
    "MnistFeatures",
    "MnistFeaturesSmall",
    "MnistMlp",
    "RotationTrainable",
    "TinyCnn",
    "TinyCnnSmall",
    "WarmupResnet",
    "WarmupResnetSmall",
    "alpha_rates",
    "describe",
    "find",
]

PAPER_TASKS = {
    "c10-cnn1": "C10Cnn1",
    "c100-resnet": "C100Resnet",
    "tiny-cnn": "TinyCnn",
    "c10-cnn2": "C10Cnn2",
    "c100-wrn": "C100Wrn",
    "mnist-features": "MnistFeatures",
    "warmup-resnet": "WarmupResnet",
}
"""The tasks of arXiv:1806.01603. Each has a small twin: `c10-cnn1-small` is `C10Cnn1Small`."""

SCALES = ("small", "full")

_SMALL_TWINS = {f"{name}-small": f"{twin}Small" for name, twin in PAPER_TASKS.items()}

TRAINABLES = {
    "digits-mlp": "DigitsMlp",
    "fashion-cnn": "FashionCnn",
    "mnist-mlp": "MnistMlp",
    **PAPER_TASKS,
    **_SMALL_TWINS,
}
"""The included trainables: the name on the command line, and the class."""

_HOMES = {
    "Data": "trainables.training.data",
    "DigitsMlp": "trainables.tasks.basic",
    "FashionCnn": "trainables.tasks.basic",
    "Layca": "trainables.layca.optimizer",
    "MnistMlp": "trainables.tasks.basic",
    "RotationTrainable": "trainables.base",
    **dict.fromkeys(PAPER_TASKS.values(), "trainables.tasks.paper"),
    **dict.fromkeys(_SMALL_TWINS.values(), "trainables.tasks.paper"),
    "alpha_rates": "trainables.layca.layer_rates",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainables' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def find(name: str, scale: str = "full") -> type[RotationTrainable]:
    """Return the included trainable of a name such as `fashion-cnn` or `c10-cnn1-small`.

    Scale `small` is the small twin of a task of the paper: `find("c10-cnn1", "small")` is
    `find("c10-cnn1-small")`. A trainable without a twin is the same at both scales.

    Raises `InvalidInput`, listing the known names, for another name or scale.
    """
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if name not in TRAINABLES:
        raise unknown_name("trainable", name, TRAINABLES)
    twin = f"{name}-small"
    if scale == "small" and twin in TRAINABLES:
        name = twin
    found: type[RotationTrainable] = __getattr__(TRAINABLES[name])
    return found


def describe(name: str) -> str:
    """Return one line about an included trainable; raises `InvalidInput` as `find` does."""
    return (find(name).__doc__ or "").partition("\n")[0]
