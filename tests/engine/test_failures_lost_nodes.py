"""A node that dies takes no trial along: its trials go on elsewhere, from their checkpoints."""

from __future__ import annotations

import logging
import re
import time

import pytest
import ray
from lost_nodes import Acting, Nodes, Somewhere, somewhere, steps
from optuna.pruners import ThresholdPruner
from plain_optuna import STATES, in_plain_optuna

from tuner import run
from tuner.engine.callbacks import RunCallback


@pytest.fixture(scope="module")
def nodes(no_ray):
    there = Nodes()
    ray.init(there.address, log_to_driver=False, logging_level=logging.ERROR)
    yield there
    ray.shutdown()
    there.end()


def decisions(result):
    """What a lost node must not change."""
    return [(t.number, t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials]


# Judges each trial by itself, whatever the order in which they report.
ALONE = ThresholdPruner(lower=0.25, n_warmup_steps=3)


def undisturbed(job):
    """Return how the trials of a job end that loses no node: their states, epochs and values."""
    plain = in_plain_optuna(job)
    return [
        (t.number, STATES[t.state], t.last_step, t.intermediate_values[t.last_step])
        for t in plain.trials
    ]


@pytest.mark.parametrize("how", ["power cut", pytest.param("shutdown", marks=pytest.mark.cluster)])
def test_the_trials_of_a_node_that_dies_go_on_elsewhere(nodes, make_job, tmp_path, how):
    nodes.have(2)
    where, gone = tmp_path / "where", []
    job = make_job(
        trainable=Somewhere,
        search_space=somewhere(where, 0.15),
        num_trials=4,
        max_epochs=8,
        pruner=ALONE,
    )
    expected = undisturbed(job)
    assert {state for _, state, *_ in expected} == {"complete", "pruned"}
    first = next(number for number, state, *_ in expected if state == "complete")

    def lose():
        last = [step for step in steps(where) if step.trial == first][-1]
        gone.append((last.node, time.time()))
        if how == "shutdown":
            nodes.shut_down(last.node, last.pid)
        else:
            nodes.cut_power(last.node)

    acting = Acting((first, 4.0), lose)
    result = run(job, observer=acting)

    assert [(t.number, t.state, t.epochs, t.value) for t in result.trials] == expected
    assert all(bool(t.reason) == (t.state == "pruned") for t in result.trials)
    ((node, when),) = gone
    assert not [step for step in steps(where) if step.node == node and step.time > when + 1]
    ours = [step for step in steps(where) if step.trial == first]
    before = [step.epoch for step in ours if step.node == node]
    after = [step.epoch for step in ours if step.node != node]
    assert before == list(range(1, before[-1] + 1))
    # One epoch again if the last checkpoint had not reached the disk, and never from the start.
    assert after == list(range(after[0], 9))
    assert before[-1] - 1 <= after[0] <= before[-1] + 1
    (line,) = [line for line in acting.lines if f"trial {first} was interrupted at epoch" in line]
    assert re.search("its node (died|stopped answering|shut down)", line)


@pytest.mark.cluster
def test_lost_nodes_change_no_verdict(nodes, make_job, tmp_path):
    nodes.have(4)
    fields = {
        "trainable": Somewhere,
        "num_trials": 12,
        "max_epochs": 8,
        "pruner": "rotation",
        "max_concurrent": 1,  # so that the order of reports is the same
    }
    calm = make_job(name="calm", search_space=somewhere(tmp_path / "calm", 0.0), **fields)
    whole = run(calm, observer=RunCallback())
    assert {trial.state for trial in whole.trials} == {"complete", "pruned"}
    where = tmp_path / "where"
    late = next(trial.number for trial in whole.trials if trial.state == "complete")
    # About when it comes to a rung, and when it has gone on from there.
    for epoch in (1.0, 5.0):
        acting = Acting((late, epoch), lambda: nodes.cut_power(steps(where)[-1].node))
        space = somewhere(where, 0.0)
        result = run(make_job(name=f"at-{epoch:g}", search_space=space, **fields), observer=acting)
        assert decisions(result) == decisions(whole)
        assert [line for line in acting.lines if "was interrupted at epoch" in line]


@pytest.mark.cluster
def test_trials_wait_for_a_node_when_all_are_gone_and_use_one_that_joins(nodes, make_job, tmp_path):
    nodes.have(3)
    where, joined, reached, lost = tmp_path / "where", [], {}, []
    fields = {"trainable": Somewhere, "num_trials": 5, "max_epochs": 6}

    def lose_all():
        for node in {step.node for step in steps(where)}:
            nodes.cut_power(node)

    class Joining(Acting):
        def reported(self, number, report):
            reached[number] = report.epoch
            if not lost and len(reached) == 3 and min(reached.values()) == 3:
                lost.append(report.epoch)  # all have a checkpoint to go on from
                lose_all()
            if len(joined) == 1:  # it is in use, so there is nothing to wait for
                self.join()

        def noted(self, line):
            super().noted(line)
            if "no node that is up has" in line:
                self.join()

        def join(self):
            joined.append((nodes.add(), time.time()))

    acting = Joining(None, lose_all)
    space = somewhere(where, 0.3, nodes=5)
    result = run(make_job(search_space=space, **fields), observer=acting)

    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 6)] * 5
    assert (
        "no node that is up has 1 CPU for a trial; trials wait until such a node joins"
        in acting.lines
    )
    assert "nodes have joined, 1 trials fit on the cluster" in acting.lines
    assert len(joined) == 2
    for node, when in joined:
        first = next(step for step in steps(where) if step.node == node)
        assert first.time - when < 10
    for number in range(3):
        epochs = [step.epoch for step in steps(where) if step.trial == number]
        assert epochs.count(1) == 1
        assert len(epochs) <= 7
