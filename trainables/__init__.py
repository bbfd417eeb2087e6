"""Ray Tune trainables that report the rotation of every layer in every epoch.

Begin with `RotationTrainable`: a subclass needs `build_model` and `build_data`. The included
trainables are in `TRAINABLES`; `find` returns one by its name. `Layca` is the optimizer that sets
the rotation.

The packages: `tasks` has the included trainables, `models` their networks, `datasets` their data,
`training` the settings and the state of a run, `layca` the optimizer, and `distributed` trains one
trial in several processes. Import public names from here: `from trainables import Layca`.

Names are imported on first use, so that listing the trainables loads neither torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes
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
"""The tasks of arXiv:1806.01603, by name. Each has a small twin: `c10-cnn1-small` is
`C10Cnn1Small`."""

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

__getattr__ = lazy_attributes(
    __name__,
    {
        "Data": "training.data",
        "DigitsMlp": "tasks.basic",
        "FashionCnn": "tasks.basic",
        "Layca": "layca.optimizer",
        "MnistMlp": "tasks.basic",
        "RotationTrainable": "base",
        **dict.fromkeys(PAPER_TASKS.values(), "tasks.paper"),
        **dict.fromkeys(_SMALL_TWINS.values(), "tasks.paper"),
        "alpha_rates": "layca.layer_rates",
    },
)


def __dir__() -> list[str]:
    return __all__


def find(name: str, scale: str = "full") -> type[RotationTrainable]:
    """Return an included trainable.

    Args:
        name: such as ``fashion-cnn`` or ``c10-cnn1-small``.
        scale: ``full``, or ``small`` for the small twin of a task of the paper. A trainable
            without a twin is the same at both scales.

    Raises:
        InvalidInput: the name or the scale is unknown; the message lists the known names.

    Example:
        >>> find("c10-cnn1", "small").__name__
        'C10Cnn1Small'
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
    """Return the first line of an included trainable's docstring.

    Args:
        name: as for `find`.

    Raises:
        InvalidInput: the name is unknown.

    Example:
        >>> describe("digits-mlp")
        "A small MLP on scikit-learn's 8x8 digits: 1,197 images, 0.01 s an epoch."
    """
    return (find(name).__doc__ or "").partition("\n")[0]
