"""Random flips and shifts of whole batches of images, where the images are."""

from __future__ import annotations

import torch
from torch import Tensor


def flip_and_shift(images: Tensor, max_shift_px: int) -> Tensor:
    """Return each image shifted by whole pixels and, half of them, mirrored left to right.

    The shifts down and to the right are drawn evenly from -max_shift_px .. max_shift_px, for each
    image apart. What comes in at an edge is the image reflected there, its edge pixel repeated
    (`d c b a | a b c d | d c b a`), as the authors of arXiv:1806.01603 fill theirs. They shift by
    fractions of a pixel too and interpolate; whole pixels keep the bytes bytes.

    Args:
        images: shape (n, channels, height, width), any dtype, on any device.
        max_shift_px: >= 0 and at most the smaller of height and width.

    The result has the same shape, dtype and device. Everything is drawn from torch's global
    generator of that device, which a trial's checkpoints hold.
    """
    count, channels, height, width = images.shape
    device = images.device
    shifts = torch.randint(-max_shift_px, max_shift_px + 1, (2, count, 1), device=device)
    mirrored = torch.rand(count, 1, device=device) < 0.5
    rows = _reflected(torch.arange(height, device=device) - shifts[0], height)
    columns = _reflected(torch.arange(width, device=device) - shifts[1], width)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    # One gather for the whole batch: the number of the pixel that each pixel is taken from.
    source = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, height * width)
    moved = images.flatten(2).gather(2, source.expand(-1, channels, -1))
    return moved.view(images.shape)


def _reflected(position: Tensor, size: int) -> Tensor:
    # -1 is 0 again, and `size` is `size - 1`: the edge pixel stands twice.
    inside = torch.where(position < 0, -1 - position, position)
    return torch.where(inside >= size, 2 * size - 1 - inside, inside)
