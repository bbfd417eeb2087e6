"""One Ray for all tests of a pytest process, with workers that start at once.

Ray runs trials of many studies one after the other. A Ray for every file took 3 to 4 s of a CPU to
start, and the workers of its trials 2 to 3 s each.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ray
from ray._private import ray_constants, worker

HERE = Path(__file__).parent
CPUS = 2
FORKS = "QUARTERTURN_TEST_FORKS"


class SharedRay:
    """The Ray of this process, started when a test first needs it."""

    def __init__(self) -> None:
        self._forks: subprocess.Popen | None = None
        self._folder: str = ""

    def start(self) -> None:
        """Start it, unless it runs already."""
        if self._forks and ray.is_initialized():
            return
        self.stop()
        # A socket's path may have 107 characters.
        self._folder = tempfile.mkdtemp(prefix="forks-", dir="/tmp")
        os.environ[FORKS] = self._folder
        # A private constant of Ray 2.60; there is no public way to start workers differently.
        ours, rays = str(HERE / "forked_worker.py"), ray_constants.SETUP_WORKER_FILENAME
        ray_constants.SETUP_WORKER_FILENAME = ours
        try:
            ray.init(
                address="local",
                num_cpus=CPUS,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # Trials of half a CPU need as many workers.
                _system_config={"num_workers_soft_limit": 2 * CPUS},
            )
        finally:
            ray_constants.SETUP_WORKER_FILENAME = rays
            del os.environ[FORKS]
        self._start_forks()

    def _start_forks(self) -> None:
        raylet = worker._global_node.all_processes["raylet"][0].process.pid
        job = ray.get_runtime_context().get_job_id()
        about = {"RAY_RAYLET_PID": str(raylet), "RAY_JOB_ID": job}
        self._forks = subprocess.Popen(
            # As a module: a script's own folder would hide `trainables` behind its tests.
            [sys.executable, "-m", "tests.fork_server", Path(self._folder, f"{raylet}-{job}")],
            cwd=HERE.parent,
            # One thread, as in a trial of one CPU.
            env={"OMP_NUM_THREADS": "1", **os.environ, **about},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._forks.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """End it, for a test that starts a Ray of its own."""
        if not self._forks:
            return
        ray.shutdown()
        self._forks.stdin.close()
        self._forks.stdout.close()
        assert self._forks.wait(30) == 0
        self._forks = None
        shutil.rmtree(self._folder)
