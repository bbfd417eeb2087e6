"""The committed cluster.yaml, up on hosts made for a test."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import yaml
from hosts import ROOT, Host, Hosts, missing
from transcript import Transcript

WORK = "/home/quarterturn/work"
# What a person looks for in what `ray up` says.
_OF_RAY_UP = "Launched|New status|Prepared|ray runtime started"


class Step(NamedTuple):
    trial: int
    epoch: int
    time: float
    host: str


class Cluster(NamedTuple):
    hosts: Hosts
    type: Transcript
    url: str
    token: str

    @property
    def laptop(self) -> Host:
        return self.hosts["laptop"]

    def steps(self) -> list[Step]:
        """Return which epochs have run where, so far."""
        where = self.hosts.shared / "where"
        if not where.exists():
            return []
        lines = [line.split() for line in where.read_text().split("\n")[:-1]]
        return [Step(int(t), int(e), float(at), host) for t, e, at, host in lines]

    def alive(self) -> int:
        """Return how many nodes the head says are alive."""
        nodes = self._ask("nodes?view=summary")["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def status(self, job: str) -> str:
        """Return how far a job is, in the job server's words."""
        return self._ask(f"api/jobs/{job}")["status"]

    def _ask(self, path: str) -> Any:
        command = f"curl -s -H 'Authorization: Bearer {self.token}' {self.url}/{path}"
        return json.loads(self.hosts["head"].run(command).stdout)


def wait(condition: Callable[[], Any], timeout_s: float) -> Any:
    """Wait until a condition holds; return its value."""
    begun = time.monotonic()
    while not (value := condition()):
        assert time.monotonic() - begun < timeout_s, "it takes too long"
        time.sleep(0.2)
    return value


def must_be_possible(*more: tuple[str, str]) -> None:
    """Fail, saying what to install, on a machine where hosts with these programs cannot be made."""
    if lacks := missing(*more):
        pytest.fail(f"hosts must be made for this test, which takes {lacks}; install these")


def config_for(hosts: Hosts) -> dict[str, Any]:
    """Return the committed cluster.yaml with these hosts, user and key, and nothing to install."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    config["provider"]["head_ip"] = hosts["head"].address
    config["provider"]["worker_ips"] = [hosts["one"].address, hosts["two"].address]
    config["auth"]["ssh_user"] = "root"
    config["setup_commands"] = [
        command for command in config["setup_commands"] if not re.search("venv|pip", command)
    ]
    del config["file_mounts"]["~/quarterturn-source"]
    return config


def bring_up(hosts: Hosts, config: dict[str, Any], transcript: Transcript, at: str) -> Cluster:
    """Boot the hosts, `ray up` from the laptop, and wait for all nodes; `at` is the job server."""
    laptop = hosts["laptop"]
    laptop.run(f"mkdir -p {WORK}")
    write(laptop, f"{WORK}/cluster.yaml", yaml.safe_dump(config, sort_keys=False))
    transcript.start_in(laptop, WORK)
    (token_made,) = re.findall(r"\(umask .*\)", (ROOT / "cluster.yaml").read_text())
    transcript.run(laptop, token_made, only="saved")
    token = laptop.run("cat ~/.ray/auth_token").stdout.strip()
    transcript.secrets.append(token)
    begun = time.monotonic()
    transcript.run(laptop, "ray up -y cluster.yaml", only=_OF_RAY_UP, timeout_s=300)
    cluster = Cluster(hosts, transcript, f"http://{at}:8265", token)
    wait(lambda: cluster.alive() == 3, 120)
    transcript.say(f"[{time.monotonic() - begun:.0f} s until head and both workers are there]")
    return cluster


def write(host: Host, path: str, text: str) -> None:
    """Write a file on a host."""
    host.run(f"cat > {path} <<'END'\n{text}\nEND")
