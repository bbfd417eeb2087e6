"""RotationTarget: how far the layers should turn, by the role of each."""

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


Bar = float | None


@dataclass(frozen=True)
class RotationTarget:
    """What the layers should reach by the end of training, each according to its role.

    Hidden layers should reach `distance`; each other role has a bar of its own, or None where it
    does not count. The defaults are from the best runs of arXiv:1806.01603, where most layers end
    at .91 to .99, shortcuts without normalisation at .73 to .85, the first layer at .67 to .88 and
    the last dense one at .58 to .88. The two ends do not count: in the best tenth of 76 recorded
    runs of a small normalised network first layers end at .18 to .71 and heads at .45 to .81, so
    the paper's bars for them would hold good runs back [measured].

    Attributes:
        distance: cosine distance for hidden layers, in (0, 2]; 1 is a quarter turn.
        tolerance: how far below still counts, in [0, distance).
        quantile: which layer speaks for all, in [0, 1]: 0 the one furthest behind its bar, 1 the
            one furthest ahead. A quarter lets a few slow ones be.
        first: bar for the first layer, in (0, 2], or None.
        head: bar for the last layer, in (0, 2], or None.
        shortcut: bar for layers with a shortcut's name, in (0, 2], or None. Names do not tell
            whether a shortcut is normalised; one that is passes this bar easily.
        patterns: shell patterns of layer names (`"encoder.*"`, as in `RotationMonitor`'s
            `exclude`), each with a bar in (0, 2] or None; the first that matches goes before the
            role. Given as a mapping and kept as pairs. One that matches nothing is no error, since
            a search space may hold several networks.

    No role is asked for more than `distance`: its bar is the smaller of the two. A pattern's bar
    stands as it is.

    Raises:
        InvalidInput: a value is outside its range.
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
        """Return the target as JSON values, for `from_dict`; patterns are pairs, in their order."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = {name: _number(value) for name, value in values.items() if name != "patterns"}
        return {**numbers, "patterns": [[name, _number(bar)] for name, bar in self._pairs]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the target that `to_dict` gave. Keys that are missing take their defaults.

        Keys of a later version, which this one does not know, are left out.

        Raises:
            InvalidInput: a value is outside its range, or no number.
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
        """The least that `reached` may return and still count as reaching the target."""
        return self.distance - self.tolerance

    def floors(self, layers: Sequence[str]) -> tuple[float, ...]:
        """Return the distance from which on each layer counts as having reached its bar.

        It is the same share of every bar as `floor` is of `distance`; NaN where a layer does not
        count.
        """
        share = self.floor / self.distance
        return tuple(bar * share for bar in self.bars(layers))

    def hidden(self, layers: Sequence[str]) -> tuple[int, ...]:
        """Return the indices of the hidden layers: no end, no shortcut and in no pattern.

        With fewer than three layers nothing lies between the ends, and all count as hidden.
        """
        return tuple(
            index
            for index, (name, role) in enumerate(zip(layers, roles(layers), strict=True))
            if role == "hidden" and not any(fnmatchcase(name, key) for key, _ in self._pairs)
        )

    def bars(self, layers: Sequence[str]) -> tuple[float, ...]:
        """Return the distance each layer should reach, in (0, 2]; NaN where it does not count."""
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
        """Return the `quantile`, interpolated, of how far the layers that count have come, >= 0.

        `distances` holds one value per layer. It is taken in units of the target: a layer counts
        as its distance times `distance` over its bar, so one that just reaches its bar counts as
        `distance`, and a hidden one as what it is. NaN values are left out; NaN when none is left.

        Raises:
            InvalidInput: there are more or fewer distances than layers.
        """
        if len(distances) != len(layers):
            raise InvalidInput(
                f"distances must have one value for each of {len(layers)} layers, "
                f"got {len(distances)}; use NaN for what is unknown"
            )
        # By hand, because every report of every trial comes here: np.quantile alone takes
        # twenty times as long as all of this.
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
    """Return the index of each layer that counts and what its distance is multiplied by."""
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
    """Return a plain float, which JSON can hold, of a number of any library."""
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
