"""The number format in which a trial trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """The format of the forward pass, and the gradient scaler that float16 needs."""

    device: torch.device
    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass; it has no effect without a dtype."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one optimizer step that reduces `loss`, a scalar."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()


def choose_precision(device: torch.device, amp: str) -> Precision:
    """Return the precision of a trial.

    Args:
        device: the device of the trial.
        amp: "auto" for bfloat16 autocast on GPUs that support it, float16 on other GPUs and
            float32 on the CPU; "off" for float32 everywhere.
    """
    dtype = None
    if device.type == "cuda" and amp == "auto":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if has_bfloat16 else torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    return Precision(device, dtype, scaler)
