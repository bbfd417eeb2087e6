"""Layca among the rest of torch: closures, gradient scaling, processes, compilation, a GPU."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam
from turned_net import RHO, array, backward, kernels, loss_of, net, step, weights

from tests.forked_processes import FORKING
from tests.reference import turn
from trainables import Layca

ANGLES = pytest.approx([math.atan(RHO)] * 2, rel=2e-6)


def momentum(model: nn.Module) -> Layca:
    return Layca(SGD(model.parameters(), lr=0.1, momentum=0.9), rate=RHO)


def test_a_closure_is_called_once_with_gradients_and_before_the_step():
    model = net()
    optimizer = momentum(model)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        calls.append(weights(model))
        return loss

    before = weights(model)
    loss = optimizer.step(closure)
    assert loss.item() == loss_of(net(), 0).item()
    assert len(calls) == 1
    assert all((seen == then).all() for seen, then in zip(calls[0], before, strict=True))
    angles = [turn(array(k), seen) for k, seen in zip(kernels(model), calls[0][::4], strict=True)]
    assert angles == ANGLES


def test_a_base_that_fails_leaves_the_weights_as_they_were():
    model = net()
    optimizer = momentum(model)
    step(model, optimizer, 0)
    before = weights(model)
    backward(model, optimizer, 1)
    optimizer.param_groups[0]["momentum"] = "much"
    with pytest.raises(TypeError):
        optimizer.step()
    assert all(
        (array(now) == then).all() for now, then in zip(kernels(model), before[::4], strict=True)
    )


def test_hooks_of_wrapper_and_base_are_called():
    model = net()
    optimizer = momentum(model)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append("wrapper"))
    optimizer.base.register_step_post_hook(lambda *_: called.append("base"))
    step(model, optimizer, 0)
    assert called == ["base", "wrapper"]


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_skips_a_step_that_overflowed_and_takes_the_others(fused):
    model = net()
    optimizer = Layca(Adam(model.parameters(), lr=0.1, fused=fused), rate=RHO)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    turned = []
    for seed, loss_times in enumerate([1.0, math.inf, 1.0]):
        before = [array(kernel) for kernel in kernels(model)]
        optimizer.zero_grad()
        scaler.scale(loss_of(model, seed) * loss_times).backward()
        scaler.step(optimizer)
        scaler.update()
        turned.append([turn(array(k), b) for k, b in zip(kernels(model), before, strict=True)])
    assert turned == [ANGLES, [0.0, 0.0], ANGLES]


def train_one_of_two(rank: int, folder: str) -> None:
    """Train in a process group of two, from other weights in each, and save what came out."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    model = net(seed=rank)
    # Before the weights are made equal, and on purpose.
    optimizer = momentum(model)
    parallel = DistributedDataParallel(model)
    angles = []
    for seed in range(3):
        before = [array(kernel) for kernel in kernels(model)]
        optimizer.zero_grad()
        loss_of(parallel, 2 * seed + rank).backward()
        optimizer.step()
        angles.append([turn(array(k), b) for k, b in zip(kernels(model), before, strict=True)])
    torch.save({"model": list(model.parameters()), "angles": angles}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_keep_the_same_weights_and_turn_exactly(tmp_path):
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    torch.multiprocessing.start_processes(
        train_one_of_two, (str(tmp_path),), nprocs=2, start_method=FORKING
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for one, same in zip(first["model"], second["model"], strict=True):
        assert torch.equal(one, same)
    assert first["angles"] == second["angles"] == [ANGLES] * 3


@pytest.mark.skipif(
    shutil.which("g++") is None or not Path("/usr/include/c++").is_dir(),
    reason="torch.compile needs g++ and its headers on a CPU, and they are not installed",
)
# The compiler's own warnings differ from one torch to the next; none of them is of this project.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "build",
    [momentum, lambda model: Layca(Adam(model.parameters(), lr=0.1), layer_rates=[0.1, 0.2])],
    ids=["momentum", "adam"],
)
def test_a_compiled_step_turns_as_an_eager_one_does(build):
    model, eager = net(), net()
    optimizer, plain = build(model), build(eager)
    compiled = torch.compile(optimizer.step)
    for seed in range(3):
        backward(model, optimizer, seed)
        before = [array(kernel) for kernel in kernels(model)]
        compiled()
        expected = step(eager, plain, seed)
        angles = [turn(array(k), b) for k, b in zip(kernels(model), before, strict=True)]
        assert angles == pytest.approx(expected, rel=5e-6)
    # Not the bias before the normalisation: its gradient is rounding, which Adam scales up.
    for one, other in zip(list(model.parameters())[2:], list(eager.parameters())[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.filterwarnings("ignore:This instance was constructed with capturable")
def test_a_step_on_a_gpu_never_waits_for_it(capturable):
    model = net().cuda()
    lr = torch.tensor(0.1, device="cuda") if capturable else 0.1
    base = Adam(model.parameters(), lr=lr, capturable=capturable)
    optimizer = Layca(base, rate=RHO, layer_rates=[0.5, 1])

    def train() -> None:
        optimizer.zero_grad()
        generator = torch.Generator("cuda").manual_seed(0)
        inputs = torch.randn(8, 1, 6, 6, device="cuda", generator=generator)
        model(inputs).square().mean().backward()
        optimizer.step()

    train()  # measures the norms, which waits
    before = [array(kernel.cpu()) for kernel in kernels(model)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    angles = [turn(array(k.cpu()), b) for k, b in zip(kernels(model), before, strict=True)]
    assert angles == pytest.approx([math.atan(RHO / 2), math.atan(RHO)], rel=5e-6)
