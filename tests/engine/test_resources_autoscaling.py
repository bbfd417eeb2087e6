"""On a cluster that grows, a trial that fits on no node yet is not refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tuner.engine.resources import ClusterCapacity, ResourceRequest, may_grow

pytestmark = pytest.mark.cluster

# A head with one CPU, and at most one node with four, which Ray starts on this machine.
KINDS = {
    "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
    "large": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": 1},
}
EMPTY_LISTS = (
    "initialization_commands setup_commands head_setup_commands worker_setup_commands "
    "head_start_ray_commands worker_start_ray_commands cluster_synced_files rsync_exclude "
    "rsync_filter"
)
CONFIG = {
    "cluster_name": "growing",
    "provider": {"type": "fake_multinode"},
    "max_workers": 1,
    "available_node_types": KINDS,
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    **{name: [] for name in EMPTY_LISTS.split()},
}

SETTINGS = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0", "RAY_AUTH_MODE": "disabled"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def growing(tmp_path_factory, no_ray) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("growing")
    (folder / "cluster.json").write_text(json.dumps(CONFIG))
    port = free_port()
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("ray"),
            "start",
            "--head",
            "--block",
            f"--port={port}",
            f"--ray-client-server-port={free_port()}",
            "--num-cpus=1",
            "--include-dashboard=false",
            f"--autoscaling-config={folder / 'cluster.json'}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **SETTINGS},
    )
    try:
        _join(port, process)
        yield
        ray.shutdown()
    finally:
        process.terminate()
        process.wait(timeout=60)


def _join(port: int, head: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        assert head.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            ray.init(address=f"127.0.0.1:{port}", log_to_driver=False)
            return
        except (OSError, ConnectionError):
            assert time.monotonic() < until, "the head takes too long"
            time.sleep(0.5)


def test_a_trial_that_fits_on_no_node_yet_waits(growing):
    until = time.monotonic() + 60
    while not may_grow():  # the autoscaler says so some seconds after its start
        assert time.monotonic() < until
        time.sleep(0.5)
    room = ClusterCapacity(ResourceRequest({"CPU": 3.0}))
    room.check()
    assert room.slots == 0


def test_a_cluster_of_its_own_size_does_not_grow():
    ray.shutdown()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        until = time.monotonic() + 7  # by when its autoscaler, which scales nothing, has reported
        while time.monotonic() < until:
            assert not may_grow()
            time.sleep(0.5)
    finally:
        ray.shutdown()
