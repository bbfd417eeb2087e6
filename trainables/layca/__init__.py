"""Layca: rotate each layer by a chosen angle per step, in the direction of any torch optimizer.

Begin with `Layca`, in `optimizer`. `alpha_rates` gives early or late layers less rotation; `rotate`
has the arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
    from trainables.layca.layer_rates import LayerRates, alpha_rates, multipliers
    from trainables.layca.optimizer import Layca

__all__ = [
    "Layca",
    "LayerRates",
    "alpha_rates",
    "multipliers",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "LayerRates": "layer_rates",
        "alpha_rates": "layer_rates",
        "multipliers": "layer_rates",
        "Layca": "optimizer",
    },
)
