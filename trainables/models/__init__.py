"""The networks of the included tasks, as functions that return an `nn.Sequential`.

Begin with `normalised_mlp` and `conv_block` in `mlp_cnn`. `vgg` and `resnet` have the networks of
arXiv:1806.01603. All take raw pixels and begin with `Standardise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
    from trainables.models.mlp_cnn import Standardise, conv_block, frozen_norm, normalised_mlp
    from trainables.models.resnet import basic_resnet, wide_resnet
    from trainables.models.vgg import dense_vgg, plain_vgg

__all__ = [
    "Standardise",
    "basic_resnet",
    "conv_block",
    "dense_vgg",
    "frozen_norm",
    "normalised_mlp",
    "plain_vgg",
    "wide_resnet",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Standardise": "mlp_cnn",
        "conv_block": "mlp_cnn",
        "frozen_norm": "mlp_cnn",
        "normalised_mlp": "mlp_cnn",
        "basic_resnet": "resnet",
        "wide_resnet": "resnet",
        "dense_vgg": "vgg",
        "plain_vgg": "vgg",
    },
)
