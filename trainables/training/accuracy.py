"""Accuracy: how many of a batch's targets a model's output names."""

from __future__ import annotations

from torch import Tensor

IGNORED = -100
"""A target that counts for nothing, as in `torch.nn.functional.cross_entropy`."""


def count_hits(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return how many targets the output names, and how many count; both are scalars.

    Args:
        output: scores of the classes, shape (N, classes, ...); or one logit for each target, which
            is positive for class 1.
        target: integer classes, shape (N, ...) or (N, 1). The target -100 does not count.

    Returns:
        None if the targets are no integers, or the shapes fit neither form.

    Example:
        >>> import torch
        >>> output = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
        >>> hits, counted = count_hits(output, torch.tensor([1, 1, IGNORED]))
        >>> int(hits), int(counted)
        (1, 2)
    """
    if target.is_floating_point() or target.is_complex() or not output.dim():
        return None
    if output.dim() > 1 and output.shape[1] > 1:
        if target.dim() == output.dim() and target.shape[1] == 1:
            target = target.squeeze(1)
        if (output.shape[0], *output.shape[2:]) != tuple(target.shape):
            return _binary(output, target)  # several labels for each sample
        counts = target != IGNORED
        return ((output.argmax(dim=1) == target) & counts).sum(), counts.sum()
    return _binary(output, target)


def _binary(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """Count the targets 0 and 1, each with a logit of its own."""
    counts = target != IGNORED
    same = output.squeeze().shape == target.squeeze().shape
    if not same or not bool(((target == 0) | (target == 1) | ~counts).all()):
        return None
    named = (output.reshape(target.shape) > 0) == (target == 1)
    return (named & counts).sum(), counts.sum()
