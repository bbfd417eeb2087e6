"""What is trained: Ray Tune trainables that report each layer's rotation every epoch.

Names are handed on lazily, so that listing the trainables does not load torch and Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tuner.errors import unknown_name

if TYPE_CHECKING:
    from trainables.base import RotationTrainable
    from trainables.data import Data
    from trainables.digits import DigitsMlp
    from trainables.fashion import FashionCnn
    from trainables.mnist import MnistMlp

__all__ = [
    "TRAINABLES",
    "Data",
    "DigitsMlp",
    "FashionCnn",
    "MnistMlp",
    "RotationTrainable",
    "describe",
    "find",
]

TRAINABLES = {"digits-mlp": "DigitsMlp", "fashion-cnn": "FashionCnn", "mnist-mlp": "MnistMlp"}
"""The included trainables: the name on the command line, and the class."""

_HOMES = {
    "Data": "trainables.data",
    "DigitsMlp": "trainables.digits",
    "FashionCnn": "trainables.fashion",
    "MnistMlp": "trainables.mnist",
    "RotationTrainable": "trainables.base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainables' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def find(name: str) -> type[RotationTrainable]:
    """Return the included trainable of a name such as `fashion-cnn`.

    Raises `InvalidInput`, listing the known names, for another.
    """
    if name not in TRAINABLES:
        raise unknown_name("trainable", name, TRAINABLES)
    found: type[RotationTrainable] = __getattr__(TRAINABLES[name])
    return found


def describe(name: str) -> str:
    """Return one line about an included trainable; raises `InvalidInput` as `find` does."""
    return (find(name).__doc__ or "").partition("\n")[0]
