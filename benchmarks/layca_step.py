"""Measure what Layca adds to an optimizer's step on ResNet-18, on the CPU and on a GPU if any.

The base and the wrapper step in turn in one process, so that a busy machine slows both. `ratio` is
the median over the pairs. `loop` is the peer: the paper's algorithm, layer by layer. With --compile
the steps of the base and of the wrapper are also measured compiled.

    OMP_NUM_THREADS=1 python benchmarks/layca_step.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torchvision.models import resnet18

from trainables import Layca

RATE = 3**-3
BASES: dict[str, Callable[[Any], Optimizer]] = {
    "sgd_momentum": lambda parameters: SGD(parameters, lr=1e-3, momentum=0.9),
    "sgd_nesterov": lambda parameters: SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True),
    "adam": lambda parameters: Adam(parameters, lr=1e-4),
    "adamw": lambda parameters: AdamW(parameters, lr=1e-4),
}
Step = Callable[[], object]


def parameters_of(device: str) -> list[Tensor]:
    """Return the parameters of a ResNet-18, each with its own random gradient."""
    torch.manual_seed(0)
    parameters = list(resnet18().to(device).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return parameters


def loop(base: Optimizer, parameters: list[Tensor]) -> Step:
    """Return the peer's step: the four lines of the algorithm, for each kernel in turn."""

    @torch.no_grad()
    def step() -> None:
        before = [parameter.clone() for parameter in parameters]
        base.step()
        for now, weight in zip(parameters, before, strict=True):
            if now.ndim < 2:
                continue
            turn = weight - now
            norm = weight.norm()
            turn -= (turn * weight).sum() / norm**2 * weight
            turn *= norm / turn.norm()
            after = weight - RATE * turn
            now.copy_(after * (norm / after.norm()))

    return step


def steps_of(build: Callable[[Any], Optimizer], device: str, compiled: bool) -> dict[str, Step]:
    """Return the steps to compare. Each has its own optimizer and parameters."""
    looped = parameters_of(device)
    steps: dict[str, Step] = {
        "base": build(parameters_of(device)).step,
        "layca": Layca(build(parameters_of(device)), rate=RATE).step,
        "loop": loop(build(looped), looped),
    }
    if compiled:
        own, wrapped = build(parameters_of(device)), Layca(build(parameters_of(device)), rate=RATE)
        steps["base_compiled"] = torch.compile(own.step)
        steps["layca_compiled"] = torch.compile(wrapped.step)
    return steps


def measure(device: str, pairs: int, compiled: bool) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of each step, and its median ratio to the base's step."""

    def taken_ms(step: Step) -> float:
        begun = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - begun)

    measured = {}
    for name, build in BASES.items():
        steps = steps_of(build, device, compiled)
        for _ in range(3):  # the first calls also do one-time work
            for step in steps.values():
                taken_ms(step)
        taken = [{kind: taken_ms(step) for kind, step in steps.items()} for _ in range(pairs)]
        figures = {f"{kind}_ms": statistics.median(one[kind] for one in taken) for kind in steps}
        for kind in steps:
            if kind != "base":
                ratio = statistics.median(one[kind] / one["base"] for one in taken)
                figures[f"{kind}_ratio"] = ratio
        measured[name] = {figure: round(value, 3) for figure, value in figures.items()}
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--compile", action="store_true", help="measure compiled steps too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    measured = {device: measure(device, arguments.pairs, arguments.compile) for device in devices}
    if arguments.json:
        print(json.dumps(measured))
        return
    for device, bases in measured.items():
        for name, figures in bases.items():
            shown = ", ".join(f"{figure} {value:.2f}" for figure, value in figures.items())
            print(f"{device:5}{name:13} {shown}")


if __name__ == "__main__":
    main()
