"""The committed cluster.yaml on several hosts: up, a job through the death of one of them, down.

The tests of this file are one story, told in order.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hosts import Hosts
from ray_up import WORK, bring_up, config_for, must_be_possible, wait, write
from transcript import Transcript

from tuner import load_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAMES = ("laptop", "head", "one", "two", "three")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    must_be_possible()
    with Hosts(NAMES, tmp_path_factory.mktemp("hosts")) as hosts:
        for name in NAMES[:-1]:
            hosts[name].start()
        transcript = Transcript(Path("/tmp/quarterturn-cluster.txt"))
        made = bring_up(hosts, config_for(hosts), transcript, hosts["head"].address)
        write(made.laptop, f"{WORK}/digits.py", Path(__file__).with_name("digits.py").read_text())
        yield made


def test_nothing_is_wrong_with_it(cluster):
    cluster.type.export(cluster.laptop, f"RAY_API_SERVER_ADDRESS={cluster.url}")
    said = cluster.type.run(cluster.laptop, "quarterturn doctor", lines=30)
    assert "WRONG" not in said.stdout
    assert "its job server refuses requests without a token" in said.stdout
    assert "/mnt/quarterturn is the same on all 3 nodes" in said.stdout


def test_a_job_outlives_a_host_and_uses_one_that_joins(cluster):
    begun = time.time()
    cluster.type.run(cluster.laptop, "quarterturn submit digits.py")
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
    known = "printf 'StrictHostKeyChecking no\nLogLevel ERROR\n' > ~/.ssh/config"
    cluster.laptop.run(known)
    host = f"root@{three.address}"
    for command in (f"ssh {host} mkdir -m 700 .ray", f"scp -pq ~/.ray/auth_token {host}:.ray/"):
        cluster.type.run(cluster.laptop, command)
    joined = time.time()
    start = f"ray start --address={cluster.hosts['head'].address}:6379"
    cluster.type.run(
        cluster.laptop,
        f"ssh {host} '. ~/quarterturn/bin/activate; "
        f"export RAY_AUTH_MODE=token QUARTERTURN_FOLDER=/mnt/quarterturn; {start}'",
        only="Local node IP|started",
    )
    wait(lambda: [step for step in cluster.steps() if step.host == "three"], 60)
    used = next(step.time for step in cluster.steps() if step.host == "three")
    cluster.type.say(f"[host three's first epoch {used - joined:.1f} s after that was typed]")
    assert used - joined < 60

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
        status = cluster.status("digits@1")
        assert status != "FAILED"
        return status == "SUCCEEDED"

    cluster.type.run(cluster.laptop, "quarterturn status digits")
    wait(ended, 240)
    logs = cluster.type.run(cluster.laptop, "quarterturn logs digits", lines=40).stdout
    assert f"trial {number} was interrupted at epoch" in logs
    report = cluster.type.run(
        cluster.laptop,
        f"quarterturn report digits --address {cluster.url} --top 4",
        shown="quarterturn report digits --address $RAY_API_SERVER_ADDRESS --top 4",
        lines=20,
    ).stdout
    assert "12 complete" in report
    result = load_study("digits", folder=cluster.hosts.shared)
    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 12)] * 12
    for trial in result.trials:
        epochs = [step.epoch for step in cluster.steps() if step.trial == trial.number]
        assert epochs.count(1) == 1, "a trial started over"
        assert len(epochs) <= 13


def test_who_has_no_token_is_refused(cluster):
    ask = "curl -s -o /dev/null -w '%{http_code}\\n' "
    jobs = f"{cluster.url}/api/jobs/"
    posted = "-H 'Content-Type: application/json' -d '{\"entrypoint\": \"id\"}' "
    for request, answer in (
        (f"{ask}{posted}{jobs}", "401"),
        (f"{ask}{posted}-H 'Authorization: Bearer wrong' {jobs}", "403"),
        (f"{ask}{jobs}", "401"),
        (f"{ask}{jobs}digits@1/logs", "401"),
        (f"{ask}{cluster.url}/nodes?view=summary", "401"),
    ):
        assert cluster.type.run(cluster.laptop, request).stdout.strip() == answer
    for command in ("submit digits.py", "status digits", "logs digits", "stop digits", "list"):
        refused = cluster.type.run(
            cluster.laptop, f"HOME=/tmp quarterturn {command}", check=False, lines=4
        )
        assert refused.returncode == 2
        assert "needs a token, none was found" in refused.stdout
    gcs = f"{cluster.hosts['head'].address}:6379"
    stranger = "HOME=/tmp RAY_AUTH_MODE=disabled timeout 60"
    for command, said in (
        (f"{stranger} python -c 'import ray; ray.init(\"{gcs}\"); print(ray.nodes())'", "^Connec"),
        (f"{stranger} ray start --address={gcs}", "^ray.exceptions"),
    ):
        refused = cluster.type.run(cluster.laptop, command, check=False, only=said)
        assert refused.returncode
        assert "NodeID" not in refused.stdout
    assert cluster.alive() == 3
    assert (
        "digits@2"
        not in cluster.laptop.run(
            f"curl -s -H 'Authorization: Bearer {cluster.token}' {jobs}"
        ).stdout
    )


def test_the_token_is_in_no_process_list_and_no_log(cluster):
    for name in ("head", "two", "three"):
        host = cluster.hosts[name]
        assert host.processes("raylet")
        assert not host.processes(cluster.token)
        found = host.run(f"grep -rl {cluster.token} /tmp /mnt/quarterturn", check=False).stdout
        assert not found.strip()
        assert re.match("-rw-------", host.run("ls -l ~/.ray/auth_token").stdout)


def test_ray_down_stops_every_host(cluster):
    cluster.type.run(cluster.laptop, "ray down -y cluster.yaml", only="remaining")
    begun = time.monotonic()
    for name in ("head", "two", "three"):
        # Ray stops the head only; a worker's Ray ends when it has missed its head for a minute.
        wait(lambda name=name: not cluster.hosts[name].processes("raylet/raylet"), 150)
    cluster.type.say(f"[no Ray on any host {time.monotonic() - begun:.0f} s later]")
