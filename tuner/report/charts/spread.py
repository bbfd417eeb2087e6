"""Picking some of many, evenly."""

from __future__ import annotations


def spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the indices of `count` things, evenly, first and last among them."""
    if count <= most:
        return list(range(count))
    if most < 2:
        return [count - 1][:most]
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
