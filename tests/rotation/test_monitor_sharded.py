"""Layers of which each process holds a part are measured whole, on every process."""

from __future__ import annotations

import json

import pytest
import torch.multiprocessing as mp
from sharded_nets import in_process, make_net, measure_split, measured, train

from tests.forked_processes import FORKING
from tuner.rotation import RotationMonitor

RANKS = 2


@pytest.fixture(scope="module")
def whole():
    """What the net measures that one process holds and trains."""
    net = make_net()
    monitor = RotationMonitor(net)
    train(net)
    return measured(monitor)


@pytest.mark.parametrize(
    "how", ["sharded", "sharded in one group", "replicated", "tensor parallel"]
)
def test_every_process_measures_the_whole_layer(how, whole, tmp_path):
    given = (RANKS, str(tmp_path), measure_split, how)
    mp.start_processes(in_process, given, nprocs=RANKS, start_method=FORKING)
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(RANKS)]
    assert answers[0] == answers[1]
    assert min(whole["distances"].values()) > 1e-3
    for moment, measured_then in answers[0].items():
        for kind, by_layer in measured_then.items():
            assert by_layer == pytest.approx(whole[kind], abs=1e-6), moment
