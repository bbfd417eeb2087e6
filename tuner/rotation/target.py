"""RotationTarget: how far a trial's layers should turn, and which of them must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.errors import InvalidInput


@dataclass(frozen=True)
class RotationTarget:
    """What the hidden layers should reach by the end of training.

    Attributes:
        distance: cosine distance to reach, in (0, 2]; 1 is a quarter turn, where the best runs of
            arXiv:1806.01603 end.
        tolerance: how far below still counts, in [0, distance); the paper's best runs end with
            most hidden layers at .91 to .99.
        quantile: which hidden layer speaks for all, in [0, 1]: 0 the least turned, 1 the most. A
            quarter lets slow ones be, such as 1x1 shortcuts, which end at .73 to .85 in the
            paper.

    Raises:
        InvalidInput: a value is outside its range.
    """

    distance: float = 1.0
    tolerance: float = 0.1
    quantile: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.distance <= 2:
            raise InvalidInput(
                f"distance must be in (0, 2], got {self.distance}; use 1.0 for a quarter turn"
            )
        if not 0 <= self.tolerance < self.distance:
            raise InvalidInput(
                f"tolerance must be in [0, {self.distance}), got {self.tolerance}; "
                "use 0.1 to accept a tenth less than the target"
            )
        if not 0 <= self.quantile <= 1:
            raise InvalidInput(
                f"quantile must be in [0, 1], got {self.quantile}; "
                "use 0.25 to let a quarter of the layers lag"
            )

    @property
    def floor(self) -> float:
        """The least distance that still counts as reaching the target."""
        return self.distance - self.tolerance

    def hidden(self, layers: Sequence[str]) -> tuple[int, ...]:
        """Return the indices of the layers that must reach the target: all but first and last.

        Both ends turn less in the best runs (arXiv:1806.01603: first layer .67 to .88, last dense
        layer .58 to .88). With fewer than three layers nothing is hidden, and all count.
        """
        indices = range(len(layers))
        return tuple(indices[1:-1] if len(layers) >= 3 else indices)

    def reached(self, distances: Sequence[float], layers: Sequence[str]) -> float:
        """Return the `quantile` of the hidden layers' distances, interpolated, in [0, 2].

        `distances` holds one value per layer. NaN values are left out; NaN when none is left.

        Raises:
            InvalidInput: there are more or fewer distances than layers.
        """
        if len(distances) != len(layers):
            raise InvalidInput(
                f"distances must have one value for each of {len(layers)} layers, "
                f"got {len(distances)}; use NaN for what is unknown"
            )
        values = np.array([distances[index] for index in self.hidden(layers)], dtype=np.float64)
        known = values[~np.isnan(values)]
        return float(np.quantile(known, self.quantile)) if known.size else float("nan")
