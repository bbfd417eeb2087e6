"""Where the labels of points go, so that they overlap as little as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom; down is positive


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float],
    *,
    radius: float,
    gap: float,
) -> list[tuple[float, float]]:
    """Return the left and top of a label for each anchor, so that they overlap as little as can be.

    One after the other takes the first free place beside its anchor, or above or below.

    Args:
        anchors: the centres of markers; y is positive downwards here.
        sizes: width and height of each label.
        bounds: width and height of the area that the labels should be within.
        radius: half the size of a marker.
        gap: left free between a marker or a label and the next label.
    """
    away = radius + gap
    taken = [(x - away, y - radius, x + away, y + radius) for x, y in anchors]
    places = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        middle = y - height / 2
        options = [(x + away, middle), (x - away - width, middle)]
        for rows in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6):
            top = middle + rows * height
            options += [(x + away, top), (x - away - width, top), (math.floor(x - width / 2), top)]
        left, top = min(options, key=lambda at: _overlap((*at, width, height), taken, bounds))
        taken.append((left - gap, top, left + width + gap, top + height))
        places.append((left, top))
    return places


def _overlap(
    label: tuple[float, float, float, float],
    taken: Sequence[Rectangle],
    bounds: tuple[float, float],
) -> float:
    """What a label (left, top, width, height) covers; worse, what of it lies out of bounds."""
    left, top, width, height = label
    here = (left, top, left + width, top + height)
    outside = width * height - _common(here, (0, 0, *bounds))
    # Rounded, so that a label that only touches another is free.
    return round(sum(_common(here, other) for other in taken) + 9 * outside, 6)


def _common(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
