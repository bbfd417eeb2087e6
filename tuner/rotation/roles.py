"""What part each layer plays in its network, as far as its name and place tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Role = Literal["first", "hidden", "shortcut", "head"]

# How libraries call the projection beside a residual block. A bare `proj` is left alone: it ends
# an attention block there, and only as a block of its own (`proj.0`) is it a shortcut.
_SHORTCUT = re.compile(
    r"""(?:^|\.)(?:
        [^.]*shortcut[^.]*       # shortcut.0, convShortcut, conv_shortcut, nin_shortcut
        | downsample             # torchvision and timm ResNets: layer2.0.downsample.0
        | (?:[^.]*_)?skip(?:_[^.]*)?   # skip, skip_connection, conv_skip
        | idpath                 # fastai
        | proj\.\d+              # torchvision's RegNet and MaxViT: block1-0.proj.0
    )(?:\.|$)""",
    re.IGNORECASE | re.VERBOSE,
)


def roles(layers: Sequence[str]) -> tuple[Role, ...]:
    """Return the role of each layer, from names in model order alone.

    The first layer is `first` and the last `head`, whatever they are called; of the others, those
    with a shortcut's name are `shortcut`, and all else is `hidden`. With fewer than three layers
    there is nothing between the ends, and all are `hidden`.
    """
    found: list[Role] = ["hidden"] * len(layers)
    if len(layers) >= 3:
        found = ["first", *map(_inner_role, layers[1:-1]), "head"]
    return tuple(found)


def _inner_role(name: str) -> Role:
    return "shortcut" if _SHORTCUT.search(name) else "hidden"
