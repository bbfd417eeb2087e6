"""The arithmetic of Layca: rotate many layers at once, on lists of tensors.

Let `w` be the weights, `s` the step and `c` the cosine between them. Projecting and scaling are
linear, so the four lines of the paper's algorithm are `A w + B s` with two numbers for each layer:

    sin = sqrt(1 - c^2)
    A = n / (|w| sqrt(1 + rho^2)) (1 - rho c / sin)
    B = n / (|s| sqrt(1 + rho^2)) rho / sin

`n` is the new norm. The numbers stay tensors on the layers' device, so that nothing waits
for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 65_536
"""Elements of one float32 sum on a CPU. A longer sum loses digits: 3e-5 of a norm with 2.4 million
elements, 1e-7 with this number. This many elements also fit the cache."""

_SMALLEST_SIN2 = 1e-6
"""Below this value, float32 cannot distinguish a step from a parallel of the weights."""


def rotate_(
    weights: Sequence[Tensor],
    steps: Sequence[Tensor],
    norms: Tensor,
    rho: Tensor | float,
) -> None:
    """Rotate each layer, in place, by atan(rho) towards its step, and set its norm.

    A layer stays exactly as it is if its step or its weights are all zero, or if its step is
    parallel to its weights. A layer whose step is not finite becomes NaN, as with any optimizer.
    Half precision is computed in float32 and rounded once.

    Args:
        weights: the weights of the layers, all of one dtype and on one device.
        steps: the direction of each layer, of the same shapes.
        norms: the new norms of the layers, shape (layers,).
        rho: the tangent of the angle, >= 0: one number, or one for each layer.

    Example:
        >>> weight = torch.tensor([[1.0, 0.0]])
        >>> rotate_([weight], [torch.tensor([[0.0, 2.0]])], torch.ones(1), 1.0)
        >>> weight
        tensor([[0.7071, 0.7071]])
    """
    if weights[0].dtype in (torch.float16, torch.bfloat16):
        wide = [weight.float() for weight in weights]
        rotate_(wide, [step.float() for step in steps], norms, rho)
        torch._foreach_copy_(list(weights), wide)
        return
    flat = [flatten(weight, step) for weight, step in zip(weights, steps, strict=True)]
    flat_weights, flat_steps = [w for w, _ in flat], [s for _, s in flat]
    w_norm, s_norm = vector_norms(flat_weights), vector_norms(flat_steps)
    cos = _products(flat_weights, flat_steps) / (w_norm * s_norm)
    sin2 = 1 - cos * cos
    sin = sin2.clamp(min=_SMALLEST_SIN2).sqrt()
    scale = norms / (1 + torch.as_tensor(rho, dtype=norms.dtype) ** 2).sqrt()
    # Comparisons with NaN are false: a step that is not finite reaches the weights.
    unchanged = (s_norm == 0) | (w_norm == 0) | (sin2 < _SMALLEST_SIN2)
    of_weight = torch.where(unchanged, 1.0, scale / w_norm * (1 - rho * cos / sin))
    of_step = torch.where(unchanged, 0.0, scale / s_norm * rho / sin)
    dtype = weights[0].dtype
    by_weight, by_step = _materialised(of_weight.to(dtype)), _materialised(of_step.to(dtype))
    torch._foreach_mul_(list(weights), list(by_weight.unbind()))
    torch._foreach_addcmul_(list(weights), list(steps), list(by_step.unbind()))


def _materialised(numbers: Tensor) -> Tensor:
    # The compiler would compute a layer's number again for each of its elements. It does not if
    # the numbers are written to positions that it cannot know in advance.
    if not torch.compiler.is_compiling():
        return numbers
    positions = torch.arange(len(numbers), device=numbers.device)
    return torch.zeros_like(numbers).scatter_(0, positions, numbers)


def flatten(weight: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors with one dimension and in the same order; dense ones are not copied."""
    if weight.is_contiguous() and step.is_contiguous():
        return weight.view(-1), step.view(-1)
    # In the order of memory, which a channels-last kernel needs.
    order = sorted(range(weight.ndim), key=weight.stride, reverse=True)
    return weight.permute(order).reshape(-1), step.permute(order).reshape(-1)


def vector_norms(flat: Sequence[Tensor]) -> Tensor:
    """Return the norm of each one-dimensional tensor, in the dtype of `scalars`."""
    if torch.compiler.is_compiling():
        return _products(flat, flat).sqrt()
    chunks, layer_of = _chunked(flat)
    norms = torch.stack(torch._foreach_norm(chunks)).to(scalars(flat[0].device))
    if layer_of is None:
        return norms
    return norms.new_zeros(len(flat)).index_add_(0, layer_of, norms * norms).sqrt()


def scalars(device: torch.device) -> torch.dtype:
    """Return the dtype of a layer's numbers: float64, if the device supports it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _products(some: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    if torch.compiler.is_compiling():
        # The compiler makes one pass of these, and would call each multi-tensor norm separately.
        pairs = zip(some, others, strict=True)
        return torch.stack([(one * other).sum() for one, other in pairs]).to(
            scalars(some[0].device)
        )
    chunks, layer_of = _chunked(some)
    # Torch has no multi-tensor dot product. A product followed by a sum would read and write as
    # much again as the whole step.
    dots = torch.stack(list(map(torch.dot, chunks, _chunked(others)[0])))
    dots = dots.to(scalars(some[0].device))
    if layer_of is None:
        return dots
    return dots.new_zeros(len(some)).index_add_(0, layer_of, dots)


def _chunked(flat: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
    # A GPU sums in blocks already.
    if flat[0].device.type != "cpu" or flat[0].dtype == torch.float64:
        return list(flat), None
    pieces = [torch.split(tensor, CHUNK) for tensor in flat]
    layer_of = [layer for layer, parts in enumerate(pieces) for _ in parts]
    return [part for parts in pieces for part in parts], torch.tensor(layer_of)
