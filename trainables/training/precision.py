"""The device and the number format of a trial."""

from __future__ import annotations

from dataclasses import dataclass

import ray
import torch


def reserved_gpus(in_actor: bool) -> int:
    """Return how many GPUs a trial has reserved; for one outside of Ray, all that torch sees.

    A share of one is one.
    """
    if in_actor:
        return len(ray.get_runtime_context().get_accelerator_ids()["GPU"])
    return torch.cuda.device_count()


def trial_device(in_actor: bool) -> torch.device:
    """Return the first GPU that this process may use, else the CPU.

    A Ray actor that asked for no GPU may still see those of its node, and leaves them alone.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if in_actor and not reserved_gpus(in_actor):
        return torch.device("cpu")
    return torch.device("cuda")


@dataclass(frozen=True)
class Precision:
    """The format of the forward pass, and the gradient scaler that float16 needs."""

    device: torch.device
    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass; without effect where no dtype is set."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one optimizer step down the gradient of `loss`, a scalar."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()


def choose_precision(device: torch.device, amp: str) -> Precision:
    """Return bfloat16 autocast on GPUs that have it, float16 on others, float32 on the CPU.

    With `amp` "off" it is float32 everywhere.
    """
    dtype = None
    if device.type == "cuda" and amp == "auto":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if has_bfloat16 else torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    return Precision(device, dtype, scaler)
