"""A folder that one node does not see is refused at the start, in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import ray
from curve_trials import Curve, space
from ray import cloudpickle
from ray.cluster_utils import Cluster

from tests.waiting import until
from tuner import InvalidInput, run
from tuner.engine.callbacks import RunCallback
from tuner.engine.checkpoints import check_shared
from tuner.engine.failures import LateNodes, StorageUnreachable
from tuner.engine.resources import ClusterCapacity, ResourceRequest, nodes_up
from tuner.engine.trial_manager import TrialManager
from tuner.storage.paths import StoragePath

cloudpickle.register_pickle_by_value(sys.modules[__name__])
UNSHARED = ["unshare", "--mount", "--map-root-user"]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder that the second node sees another one in place of."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def two_nodes(own, no_ray) -> Iterator[Callable[[Path], None]]:
    """A cluster whose second node has a file system of its own over the folder `own`; more join
    that have one over the folder that is given."""
    if not shutil.which("unshare") or subprocess.run([*UNSHARED, "true"]).returncode:
        pytest.skip("this machine lets nobody mount: unshare --mount --map-root-user")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    started = [join(own)]
    until(lambda: len(nodes_up()) == 2, "the second node")
    yield lambda folder: started.append(join(folder))
    ray.shutdown()
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=60)
    cluster.shutdown()


def join(unseen: Path) -> subprocess.Popen[bytes]:
    """Start a node of the cluster that has a file system of its own over a folder."""
    command = Path(sys.executable).with_name("ray")
    address = ray.get_runtime_context().gcs_address
    node = f"{command} start --address={address} --num-cpus=1 --block"
    return subprocess.Popen(
        [*UNSHARED, "sh", "-c", f"mount -t tmpfs none {unseen} && exec {node}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_folder_that_a_node_does_not_see_is_refused_before_any_trial(
    two_nodes, own, make_job, tmp_path
):
    for fields in ({"checkpoints": str(own)}, {"folder": own / "studies"}):
        with pytest.raises(InvalidInput) as caught:
            run(make_job(**fields), observer=RunCallback())
        line = str(caught.value)
        assert line.startswith("checkpoints must be in a folder that every node sees, got '")
        assert line.endswith("; mount one or use --checkpoints s3://...")
        assert "\n" not in line
    assert not list(tmp_path.iterdir())
    assert not [path for path in own.rglob("*") if path.is_file()]


def test_a_folder_that_all_see_is_used_and_nothing_is_left_in_it(two_nodes, make_job, tmp_path):
    place = StoragePath(str(tmp_path / "shared"))
    place.make()
    check_shared(place, nodes_up())
    assert place.is_empty()
    result = run(make_job(checkpoints=place.address, num_trials=1), observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete"]
    assert result.checkpoints == str(place / "study" / "trials")


def test_only_nodes_that_may_run_trials_are_asked(two_nodes, own):
    place = StoragePath(str(own))
    here = ray.get_runtime_context().get_node_id()
    check_shared(place, [node for node in nodes_up() if node.id == here])
    with pytest.raises(InvalidInput, match="that every node sees"):
        check_shared(place, nodes_up())
    assert place.is_empty()


def test_a_node_that_does_not_answer_is_named(two_nodes, tmp_path):
    with pytest.raises(InvalidInput, match=r"which .* cannot use \(no answer within 0 s\); mount"):
        check_shared(StoragePath(str(tmp_path)), nodes_up(), within_s=0.0)


class Held(Curve):
    """Gets no further until the file `go` is there."""

    def step(self):
        until(Path(self.config["go"]).exists, "somebody lets it go on", within_s=120)
        return super().step()


class LettingGo(RunCallback):
    """Lets all go on as soon as something is noted, and calls back at the first start."""

    def __init__(self, go: Path, at_start: Callable[[], None]) -> None:
        self.go = go
        self.at_start = at_start
        self.lines: list[str] = []

    def started(self, number, params):
        self.at_start()
        self.at_start = lambda: None

    def noted(self, line):
        self.lines.append(line)
        self.go.touch()


@pytest.mark.cluster
def test_a_node_that_joins_later_and_does_not_see_the_folder_gets_no_trials(
    two_nodes, make_job, tmp_path
):
    go, place = tmp_path / "go", tmp_path / "later"
    place.mkdir()
    job = make_job(
        trainable=Held,
        search_space=lambda trial: {**space(trial), "go": str(go), "saves": True},
        checkpoints=str(place),
        num_trials=6,
    )
    listening = LettingGo(go, lambda: two_nodes(place))
    result = run(job, observer=listening)
    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 9)] * 6
    line, taken_back = listening.lines
    assert line.startswith("checkpoints must be in a folder that every node sees, got '")
    assert ray.util.get_node_ip_address() in line
    assert line.endswith(
        "; mount one or use --checkpoints s3://...; until then no trial runs there"
    )
    assert "\n" not in line
    assert taken_back.endswith("was interrupted at epoch 0: its node cannot use the checkpoints")
    assert not list(place.rglob(".quarterturn*"))


def test_a_study_ends_when_no_node_is_left_that_sees_the_folder(two_nodes, tmp_path):
    first, second, *_ = nodes_up()
    room = ClusterCapacity(
        ResourceRequest({"CPU": 1.0}, {"ray.io/node-id": f"in({first.id},{second.id})"})
    )
    manager = TrialManager(optuna.create_study(), space, metric="score", num_trials=1, max_epochs=1)
    late = LateNodes(manager, room, StoragePath(str(tmp_path)))
    late.take_back(0, StorageUnreachable(first.id, first.name, "no such file"))
    assert str(manager.fatal).startswith("checkpoints must be in a folder that every node sees")
