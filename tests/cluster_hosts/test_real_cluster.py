"""The committed cluster.yaml on several hosts: up, a job through the death of one of them, down.

The tests of this file are one story, told in order.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hosts import ROOT, Hosts, missing
from transcript import Transcript

from tuner import load_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAMES = ("laptop", "head", "one", "two", "three")
WORK = "/home/quarterturn/work"


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
    def laptop(self):
        return self.hosts["laptop"]

    def steps(self) -> list[Step]:
        """Return which epochs have run where, so far."""
        where = self.hosts.shared / "where"
        if not where.exists():
            return []
        lines = [line.split() for line in where.read_text().split("\n")[:-1]]
        return [Step(int(t), int(e), float(at), host) for t, e, at, host in lines]

    def alive(self) -> int:
        """Return how many nodes Ray says are alive."""
        answer = self.laptop.run(
            f"curl -s -H 'Authorization: Bearer {self.token}' {self.url}/nodes?view=summary",
        ).stdout
        nodes = json.loads(answer)["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)


def wait(condition, timeout_s):
    """Wait until a condition holds; return its value and how long it took."""
    begun = time.monotonic()
    while not (value := condition()):
        assert time.monotonic() - begun < timeout_s, "it takes too long"
        time.sleep(0.2)
    return value, time.monotonic() - begun


def config_for(hosts: Hosts) -> dict:
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if lacks := missing():
        pytest.fail(f"hosts must be made for this test, which takes {lacks}; install these")
    folder = tmp_path_factory.mktemp("hosts")
    with Hosts(NAMES, folder) as hosts:
        transcript = Transcript(Path("/tmp/quarterturn-cluster.txt"))
        for name in NAMES[:-1]:
            hosts[name].start()
        laptop = hosts["laptop"]
        laptop.run(f"mkdir -p {WORK}")
        for name, text in (
            ("cluster.yaml", yaml.safe_dump(config_for(hosts), sort_keys=False)),
            ("digits.py", (Path(__file__).parent / "digits.py").read_text()),
        ):
            laptop.run(f"cat > {WORK}/{name} <<'END'\n{text}\nEND")
        transcript.run(laptop, "ray get-auth-token --generate > /dev/null", lines=2)
        token = laptop.run("cat ~/.ray/auth_token").stdout.strip()
        transcript.secrets.append(token)
        begun = time.monotonic()
        transcript.run(
            laptop,
            f"cd {WORK}; ray up -y cluster.yaml",
            shown="ray up -y cluster.yaml",
            lines=24,
            timeout_s=300,
        )
        url = f"http://{hosts['head'].address}:8265"
        made = Cluster(hosts, transcript, url, token)
        wait(lambda: made.alive() == 3, 120)
        transcript.say(f"[{time.monotonic() - begun:.0f} s until head and both workers are there]")
        yield made


def test_who_has_no_token_is_refused(cluster):
    ask = "curl -s -o /dev/null -w '%{http_code}\\n' "
    posted = "-H 'Content-Type: application/json' -d '{\"entrypoint\": \"id\"}' "
    for request, answers in (
        (f"{ask}{cluster.url}/api/jobs/", ("401",)),
        (f"{ask}-H 'Authorization: Bearer wrong' {cluster.url}/api/jobs/", ("401", "403")),
        (f"{ask}{posted}{cluster.url}/api/jobs/", ("401",)),
        (f"{ask}{cluster.url}/nodes", ("401",)),
    ):
        assert cluster.type.run(cluster.laptop, request).stdout.strip() in answers
    stranger = "env HOME=/tmp RAY_AUTH_MODE=disabled"
    submitted = cluster.type.run(
        cluster.laptop,
        f"{stranger} ray job submit --address {cluster.url} -- id",
        check=False,
        lines=4,
    )
    assert submitted.returncode
    assert "uid=" not in submitted.stdout
    gcs = f"{cluster.hosts['head'].address}:6379"
    for command in (
        f"timeout 60 {stranger} python -c 'import ray; ray.init(\"{gcs}\"); print(ray.nodes())'",
        f"timeout 60 {stranger} ray start --address={gcs}",
    ):
        refused = cluster.type.run(cluster.laptop, command, check=False, lines=4)
        assert refused.returncode
        assert "NodeID" not in refused.stdout
    assert cluster.alive() == 3
    assert cluster.laptop.run(f"{ask}{cluster.url}/").stdout.strip() in ("200", "401")


def test_a_job_outlives_a_host_and_uses_one_that_joins(cluster):
    begun = time.time()
    cluster.type.run(
        cluster.laptop,
        f"cd {WORK}; RAY_AUTH_MODE=token ray job submit --address {cluster.url} --no-wait "
        "--submission-id digits --working-dir . -- quarterturn run digits.py",
        shown=f"ray job submit --address {cluster.url} --no-wait --submission-id digits "
        "--working-dir . -- quarterturn run digits.py",
        lines=8,
    )
    submitted = time.time()
    wait(cluster.steps, 120)
    first = cluster.steps()[0].time
    cluster.type.say(
        f"[first epoch of the first trial {first - begun:.1f} s after typing that, "
        f"{first - submitted:.1f} s after it returned]"
    )
    wait(lambda: {step.host for step in cluster.steps()} == {"head", "one", "two"}, 120)
    wait(lambda: [s for s in cluster.steps() if s.host == "one" and s.epoch >= 3], 60)

    cluster.hosts["one"].kill()
    killed = time.time()
    lost = [step for step in cluster.steps() if step.host == "one"]
    number, last = lost[-1].trial, lost[-1].epoch
    cluster.type.say(f"[host one loses its power: trial {number} was at epoch {last}]")

    three = cluster.hosts["three"]
    three.start()
    three.run("mkdir -p ~/.ray")
    three.run(f"umask 077; echo {cluster.token} > ~/.ray/auth_token")
    joined = time.time()
    cluster.type.run(
        three,
        "RAY_AUTH_MODE=token QUARTERTURN_FOLDER=/mnt/quarterturn "
        f"ray start --address={cluster.hosts['head'].address}:6379",
        lines=4,
    )
    wait(lambda: [step for step in cluster.steps() if step.host == "three"], 60)
    used = next(step.time for step in cluster.steps() if step.host == "three")
    cluster.type.say(f"[host three's first epoch {used - joined:.1f} s after that was typed]")
    assert used - joined < 30

    def again():
        return [s for s in cluster.steps() if s.trial == number and s.time > killed + 1]

    wait(again, 120)
    resumed = again()[0]
    cluster.type.say(
        f"[trial {number} goes on at epoch {resumed.epoch} on {resumed.host}, "
        f"{resumed.time - killed:.1f} s after its host died]"
    )
    assert resumed.host != "one"
    assert last <= resumed.epoch <= last + 1

    def ended():
        status = cluster.laptop.run(
            f". ~/quarterturn/bin/activate; RAY_AUTH_MODE=token "
            f"ray job status --address {cluster.url} digits"
        ).stdout
        assert "failed" not in status
        return "succeeded" in status

    wait(ended, 240)
    logs = cluster.type.run(
        cluster.laptop,
        f"RAY_AUTH_MODE=token ray job logs --address {cluster.url} digits",
        shown=f"ray job logs --address {cluster.url} digits",
        lines=40,
    ).stdout
    assert f"trial {number} was interrupted at epoch" in logs
    cluster.type.run(
        cluster.hosts["head"],
        "quarterturn report digits --folder /mnt/quarterturn --top 4",
        lines=20,
    )
    result = load_study("digits", folder=cluster.hosts.shared)
    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 12)] * 12
    for trial in result.trials:
        epochs = [step.epoch for step in cluster.steps() if step.trial == trial.number]
        assert epochs.count(1) == 1, "a trial started over"
        assert len(epochs) <= 13


def test_the_token_is_in_no_process_list_and_no_log(cluster):
    for name in ("head", "two", "three"):
        host = cluster.hosts[name]
        assert host.processes("raylet")
        assert not host.processes(cluster.token)
        found = host.run(f"grep -rl {cluster.token} /tmp /mnt/quarterturn", check=False).stdout
        assert not found.strip()
        assert re.match("-rw-------", host.run("ls -l ~/.ray/auth_token").stdout)


def test_ray_down_stops_every_host(cluster):
    cluster.type.run(
        cluster.laptop,
        f"cd {WORK}; ray down -y cluster.yaml",
        shown="ray down -y cluster.yaml",
        lines=10,
    )
    begun = time.monotonic()
    for name in ("head", "two", "three"):
        # Ray stops the head only; a worker's Ray ends when it has missed its head for a minute.
        wait(lambda name=name: not cluster.hosts[name].processes("raylet/raylet"), 150)
    cluster.type.say(f"[no Ray on any host {time.monotonic() - begun:.0f} s later]")
