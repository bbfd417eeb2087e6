"""Zeros that parameters hold for a while instead of their own values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class StandIns:
    """Keeps a CPU's stand-ins from one time to the next.

    There, memory takes longer to get from the system than an optimizer's whole step does. A GPU's
    comes from a pool, and had better be lent back to it.
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}

    @contextmanager
    def of(self, parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Let parameters hold zeros within the context, whatever happens in it; yield these.

        What is left in them can be read until the next time. A parameter's own storage is put
        aside and put back, so that whatever else refers to it still does.
        """
        stand_ins = [self._zeros(parameter) for parameter in parameters]
        own = [parameter.data for parameter in parameters]
        try:
            for parameter, stand_in in zip(parameters, stand_ins, strict=True):
                parameter.data = stand_in
            yield stand_ins
        finally:
            for parameter, data in zip(parameters, own, strict=True):
                parameter.data = data

    def _zeros(self, parameter: Tensor) -> Tensor:
        if parameter.device.type != "cpu":
            return torch.zeros_like(parameter)
        kept = self._kept.get(parameter)
        if (
            kept is None
            or kept.dtype != parameter.dtype
            or kept.shape != parameter.shape
            or kept.stride() != parameter.stride()
        ):
            kept = self._kept[parameter] = torch.zeros_like(parameter)
        return kept.zero_()
