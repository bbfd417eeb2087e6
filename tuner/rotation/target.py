"""RotationTarget: the distance that each layer should reach, by the layer's role."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from numbers import Real
from typing import Any, Literal, Self

from tuner.errors import InvalidInput

Role = Literal["first", "hidden", "shortcut", "head"]

# Names that libraries give to the projection beside a residual block. A plain `proj` is the last
# layer of an attention block. Only as a block with parts (`proj.0`) is it a shortcut.
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
    """Return the role of each layer, from the order and the names of the layers.

    The first layer is `first` and the last layer is `head`, whatever their names. Of the other
    layers, those with a shortcut's name are `shortcut` and the rest are `hidden`. With fewer than
    three layers all are `hidden`.

    Args:
        layers: names of the layers, in model order.
    """
    found: list[Role] = ["hidden"] * len(layers)
    if len(layers) >= 3:
        found = ["first", *map(_inner_role, layers[1:-1]), "head"]
    return tuple(found)


def _inner_role(name: str) -> Role:
    return "shortcut" if _SHORTCUT.search(name) else "hidden"


Bar = float | None


@dataclass(frozen=True)
class RotationTarget:
    """The cosine distance that each layer should reach by the end of training, by the layer's role.

    A bar is the distance that a layer should reach. The bar of hidden layers is `distance`. Each
    other role has its own bar, or None if its layers do not count.

    The defaults come from the best runs of arXiv:1806.01603. There most layers end at .91 to .99,
    and shortcuts without normalisation at .73 to .85. The first layer ends at .67 to .88, and the
    last dense layer at .58 to .88. By default these two layers do not count. In the best tenth of
    76 recorded runs of a small normalised network, first layers end at .18 to .71. Heads end at .45
    to .81. So the paper's bars for these two layers would rank good runs too low [measured].

    Attributes:
        distance: the bar of hidden layers, in (0, 2]; 1 is a quarter turn.
        tolerance: how far below its bar a layer may end and still reach it, in [0, distance).
        quantile: the quantile over layers that `reached` returns, in [0, 1]: 0 is the slowest
            layer relative to its bar, 1 the fastest. The default, a quarter, ignores a few slow
            layers.
        first: the bar of the first layer, in (0, 2], or None.
        head: the bar of the last layer, in (0, 2], or None.
        shortcut: the bar of layers with a shortcut's name, in (0, 2], or None. A name does not
            show whether a shortcut is normalised; a normalised shortcut exceeds this bar easily.
        patterns: shell patterns of layer names (`"encoder.*"`, as in `RotationMonitor`'s
            `exclude`), each with a bar in (0, 2] or None. Give a mapping; it is stored as pairs.
            The first pattern that matches a layer replaces the bar of its role. A pattern may
            match no layer, because a search space may hold several networks.

    The bar of a role is at most `distance`; a larger value counts as `distance`. The bar of a
    pattern has no such limit.

    Raises:
        InvalidInput: a value is outside its range.

    Example:
        >>> target = RotationTarget(patterns={"embed.*": 0.5})
        >>> layers = ["conv1", "embed.weight", "conv2", "conv3", "fc"]
        >>> target.bars(layers)
        (nan, 0.5, 1.0, 1.0, nan)
        >>> target.reached([0.3, 0.4, 0.9, 0.7, 0.5], layers)
        0.75
    """

    distance: float = 1.0
    tolerance: float = 0.1
    quantile: float = 0.25
    first: float | None = None
    head: float | None = None
    shortcut: float | None = 0.73
    patterns: Mapping[str, Bar] | tuple[tuple[str, Bar], ...] = ()

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
        for role in ("first", "head", "shortcut"):
            if not _is_bar(getattr(self, role)):
                raise InvalidInput(
                    f"{role} must be None or in (0, 2], got {getattr(self, role)!r}; "
                    "use None where it need not turn"
                )
        object.__setattr__(self, "patterns", _as_pairs(self.patterns))

    def to_dict(self) -> dict[str, Any]:
        """Return the target as JSON values for `from_dict`; patterns are pairs, in order."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = {name: _number(value) for name, value in values.items() if name != "patterns"}
        return {**numbers, "patterns": [[name, _number(bar)] for name, bar in self._pairs]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the target that `to_dict` wrote.

        A missing key takes its default. An unknown key, as of a later version, is ignored.

        Args:
            values: the dict of `to_dict`.

        Raises:
            InvalidInput: a value is outside its range, or is not a number.
        """
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for name in ("distance", "tolerance", "quantile"):
            if name in known and not _is_number(known[name]):
                raise InvalidInput(
                    f"{name} must be a number, got {known[name]!r}; leave it out for the default"
                )
        if isinstance(pairs := known.get("patterns"), list):
            known["patterns"] = tuple(
                tuple(pair) if isinstance(pair, list) else pair for pair in pairs
            )
        return cls(**known)

    @property
    def floor(self) -> float:
        """The lowest value of `reached` that counts as reaching the target."""
        return self.distance - self.tolerance

    def floors(self, layers: Sequence[str]) -> tuple[float, ...]:
        """Return the lowest distance at which each layer reaches its bar, in (0, 2].

        It is the bar times `floor / distance`, and NaN for a layer that does not count.

        Args:
            layers: names of the layers, in model order.
        """
        share = self.floor / self.distance
        return tuple(bar * share for bar in self.bars(layers))

    def hidden(self, layers: Sequence[str]) -> tuple[int, ...]:
        """Return the indices of the layers with the role `hidden` that match no pattern.

        With fewer than three layers all have this role.

        Args:
            layers: names of the layers, in model order.
        """
        return tuple(
            index
            for index, (name, role) in enumerate(zip(layers, roles(layers), strict=True))
            if role == "hidden" and not any(fnmatchcase(name, key) for key, _ in self._pairs)
        )

    def bars(self, layers: Sequence[str]) -> tuple[float, ...]:
        """Return the distance that each layer should reach, in (0, 2].

        It is NaN for a layer that does not count.

        Args:
            layers: names of the layers, in model order.
        """
        of_role = {
            "hidden": self.distance,
            "first": self._at_most_distance(self.first),
            "head": self._at_most_distance(self.head),
            "shortcut": self._at_most_distance(self.shortcut),
        }
        return tuple(
            next(
                (
                    math.nan if bar is None else float(bar)
                    for pattern, bar in self._pairs
                    if fnmatchcase(name, pattern)
                ),
                float(of_role[role]),
            )
            for name, role in zip(layers, roles(layers), strict=True)
        )

    def reached(self, distances: Sequence[float], layers: Sequence[str]) -> float:
        """Return the interpolated `quantile` of the layers' distances, each scaled by its bar.

        A layer's scaled distance is its distance times `self.distance` over its bar. So it equals
        `self.distance` at the bar, and for a hidden layer it is the distance itself. Layers that do
        not count and unknown distances (NaN) are left out.

        Args:
            distances: cosine distance of each layer, in [0, 2]; NaN if unknown.
            layers: names of the layers, in model order.

        Returns:
            A number >= 0; NaN if no distance is known.

        Raises:
            InvalidInput: there are more or fewer distances than layers.
        """
        if len(distances) != len(layers):
            raise InvalidInput(
                f"distances must have one value for each of {len(layers)} layers, "
                f"got {len(distances)}; use NaN for what is unknown"
            )
        # Without NumPy, because each report of each trial calls this: np.quantile alone takes
        # twenty times as long as this whole method.
        known = sorted(
            distance * unit
            for index, unit in _units(self, tuple(layers))
            if not math.isnan(distance := distances[index])
        )
        if not known:
            return math.nan
        place = self.quantile * (len(known) - 1)
        below = int(place)
        above = min(below + 1, len(known) - 1)
        return float(known[below] + (known[above] - known[below]) * (place - below))

    @property
    def _pairs(self) -> tuple[tuple[str, Bar], ...]:
        assert isinstance(self.patterns, tuple)  # since __post_init__
        return self.patterns

    def _at_most_distance(self, bar: Bar) -> float:
        return math.nan if bar is None else min(bar, self.distance)


@lru_cache(maxsize=256)
def _units(target: RotationTarget, layers: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """Return the index of each layer that counts, with the factor that scales its distance."""
    return tuple(
        (index, target.distance / bar)
        for index, bar in enumerate(target.bars(layers))
        if not math.isnan(bar)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_bar(bar: object) -> bool:
    return bar is None or (isinstance(bar, Real) and 0 < float(bar) <= 2)


def _number(bar: Bar) -> Bar:
    """Convert a number of any library, such as NumPy, to a float that JSON can hold."""
    return None if bar is None else float(bar)


def _as_pairs(patterns: object) -> tuple[tuple[str, Bar], ...]:
    pairs = tuple(patterns.items()) if isinstance(patterns, Mapping) else patterns
    if not isinstance(pairs, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise InvalidInput(
            f"patterns must map layer names to distances, got {patterns!r}; "
            "use {'head.*': 0.5} or {'head.*': None}"
        )
    for pattern, bar in pairs:
        if not _is_bar(bar):
            raise InvalidInput(
                f"patterns must give None or a distance in (0, 2], got {bar!r} for {pattern!r}; "
                "use None where a layer need not turn"
            )
    return pairs
