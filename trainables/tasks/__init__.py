"""The included trainables: a network, a data set and the task's own defaults.

Begin with `DigitsMlp` in `basic`, which is as short as a trainable can be. `paper` has the tasks of
arXiv:1806.01603 at full size and in small. `trainables.find` finds each by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
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
        ImageTask,
        MnistFeatures,
        MnistFeaturesSmall,
        SmallFashion,
        TinyCnn,
        TinyCnnSmall,
        WarmupResnet,
        WarmupResnetSmall,
    )

__all__ = [
    "C10Cnn1",
    "C10Cnn1Small",
    "C10Cnn2",
    "C10Cnn2Small",
    "C100Resnet",
    "C100ResnetSmall",
    "C100Wrn",
    "C100WrnSmall",
    "DigitsMlp",
    "FashionCnn",
    "ImageTask",
    "MnistFeatures",
    "MnistFeaturesSmall",
    "MnistMlp",
    "SmallFashion",
    "TinyCnn",
    "TinyCnnSmall",
    "WarmupResnet",
    "WarmupResnetSmall",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "DigitsMlp": "basic",
        "FashionCnn": "basic",
        "MnistMlp": "basic",
        "C100Resnet": "paper",
        "C100ResnetSmall": "paper",
        "C100Wrn": "paper",
        "C100WrnSmall": "paper",
        "C10Cnn1": "paper",
        "C10Cnn1Small": "paper",
        "C10Cnn2": "paper",
        "C10Cnn2Small": "paper",
        "ImageTask": "paper",
        "MnistFeatures": "paper",
        "MnistFeaturesSmall": "paper",
        "SmallFashion": "paper",
        "TinyCnn": "paper",
        "TinyCnnSmall": "paper",
        "WarmupResnet": "paper",
        "WarmupResnetSmall": "paper",
    },
)
