"""A real head with a job server and a token, and the command pointed at it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """A running head: where its job server is, and what a client needs to be let in."""

    address: str
    token: Path
    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What a laptop's environment would be: the token, and no Ray of its own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "QUARTERTURN_"))}
        return {
            **kept,
            "HOME": str(self.root / "laptop"),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": self.address,
            **more,
        }


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="session")
def head(tmp_path_factory) -> Iterator[Head]:
    """A head of two CPUs, started with a PATH that its own Python is not on."""
    root = tmp_path_factory.mktemp("head")
    for home in ("cluster", "laptop"):
        (root / home).mkdir()
    token = root / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    gcs, server, agent, grpc, metrics = free_ports(5)
    begun = [
        str(BIN / "ray"),
        *("start", "--head", "--block", "--num-cpus", "2", "--port", str(gcs)),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(server)),
        *("--dashboard-agent-listen-port", str(agent)),
        *("--dashboard-agent-grpc-port", str(grpc), "--metrics-export-port", str(metrics)),
    ]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(root / "cluster"),
        # Short: a socket's path may have 107 characters.
        "RAY_TMPDIR": "/tmp",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with (root / "head.log").open("w") as log:
        process = subprocess.Popen(
            begun, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{server}"
    try:
        _wait_for(address, token.read_text(), root / "head.log")
        yield Head(address, token, root)
    finally:
        process.terminate()  # it ends what it has started, in order
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address: str, token: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            answer = requests.get(
                f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=5
            )
            if answer.ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the head has not answered within a minute: {log.read_text()}")


@pytest.fixture
def laptop(head, tmp_path) -> Callable[..., Said]:
    """Return a function that runs the command as on a laptop, in a folder of its own."""

    def run(*arguments: str, **more: str) -> Said:
        done = subprocess.run(
            [BIN / "quarterturn", *map(str, arguments)],
            cwd=tmp_path,
            env=head.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run
