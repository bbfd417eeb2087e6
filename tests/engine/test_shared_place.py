"""A folder that one node does not see is refused at the start, in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tuner import InvalidInput, run
from tuner.engine.nodes import nodes_up
from tuner.engine.observer import Observer
from tuner.engine.shared_place import check_shared
from tuner.study.places import Place

UNSHARED = ["unshare", "--mount", "--map-root-user"]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder that the second node sees another one in place of."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def two_nodes(own) -> Iterator[None]:
    """A cluster whose second node has a file system of its own over the folder `own`."""
    if not shutil.which("unshare") or subprocess.run([*UNSHARED, "true"]).returncode:
        pytest.skip("this machine lets nobody mount: unshare --mount --map-root-user")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    command = Path(sys.executable).with_name("ray")
    node = f"{command} start --address={cluster.address} --num-cpus=1 --block"
    process = subprocess.Popen(
        [*UNSHARED, "sh", "-c", f"mount -t tmpfs none {own} && exec {node}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    until = time.monotonic() + 60
    while len(nodes_up()) < 2:
        assert process.poll() is None
        assert time.monotonic() < until, "the second node takes too long"
        time.sleep(0.2)
    yield
    ray.shutdown()
    process.terminate()
    process.wait(timeout=60)
    cluster.shutdown()


def test_a_folder_that_a_node_does_not_see_is_refused_before_any_trial(
    two_nodes, own, make_job, tmp_path
):
    for fields in ({"checkpoints": str(own)}, {"folder": own / "studies"}):
        with pytest.raises(InvalidInput) as caught:
            run(make_job(**fields), observer=Observer())
        line = str(caught.value)
        assert line.startswith("checkpoints must be in a folder that every node sees, got '")
        assert line.endswith("; mount one or use --checkpoints s3://...")
        assert "\n" not in line
    assert not list(tmp_path.iterdir())
    assert not [path for path in own.rglob("*") if path.is_file()]


def test_a_folder_that_all_see_is_used_and_nothing_is_left_in_it(two_nodes, make_job, tmp_path):
    place = Place(str(tmp_path / "shared"))
    place.make()
    check_shared(place, nodes_up())
    assert place.is_empty()
    result = run(make_job(checkpoints=place.address, num_trials=4), observer=Observer())
    assert [trial.state for trial in result.trials] == ["complete"] * 4
    assert result.checkpoints == str(place / "study" / "trials")


def test_only_nodes_that_may_run_trials_are_asked(two_nodes, own):
    place = Place(str(own))
    here = ray.get_runtime_context().get_node_id()
    check_shared(place, [node for node in nodes_up() if node.id == here])
    with pytest.raises(InvalidInput, match="that every node sees"):
        check_shared(place, nodes_up())
    assert place.is_empty()


def test_a_node_that_does_not_answer_is_named(two_nodes, tmp_path):
    with pytest.raises(InvalidInput, match=r"which .* cannot use \(no answer within 0 s\); mount"):
        check_shared(Place(str(tmp_path)), nodes_up(), within_s=0.0)
