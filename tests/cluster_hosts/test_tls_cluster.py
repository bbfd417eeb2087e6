"""The recipe of deploy/README.md for a network that one does not trust, followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hosts import ROOT, Hosts
from ray_up import bring_up, config_for, must_be_possible, wait, write
from transcript import Transcript

from tuner import load_study

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAMES = ("laptop", "head", "one", "two")


def recipe() -> str:
    """Return the line of environment variables that the recipe adds."""
    (line,) = re.findall(
        r"^export RAY_USE_TLS=1 .*$", (ROOT / "deploy/README.md").read_text(), re.M
    )
    return line


def with_tls(config: dict) -> dict:
    """Follow the recipe."""
    config["file_mounts"]["~/.ray/tls"] = "~/.ray/tls"
    for role in ("head", "worker"):
        key = f"{role}_start_ray_commands"
        config[key] = [
            command.replace("ray start", f"{recipe()} ray start").replace(
                " --dashboard-host=0.0.0.0", ""
            )
            for command in config[key]
        ]
    return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    must_be_possible(("nginx", "nginx-light"), ("openssl", "openssl"))
    with Hosts(NAMES, tmp_path_factory.mktemp("hosts")) as hosts:
        for name in NAMES:
            hosts[name].start()
        transcript = Transcript(Path("/tmp/quarterturn-tls.txt"))
        addresses = " ".join(hosts[name].address for name in NAMES[1:])
        transcript.run(
            hosts["laptop"],
            f"{ROOT}/deploy/tls.sh ~/.ray/tls {addresses}",
            shown=f"deploy/tls.sh ~/.ray/tls {addresses}",
        )
        hosts["laptop"].run(f"{ROOT}/deploy/tls.sh /tmp/other {addresses}")
        yield bring_up(hosts, with_tls(config_for(hosts)), transcript, "127.0.0.1")


def tls(certificate: str) -> str:
    """Return the recipe's variables, with a certificate from this folder."""
    return f"{recipe().rstrip(';')} RAY_AUTH_MODE=token;".replace(
        "=~/.ray/tls/node", f"={certificate}/node"
    )


def test_nodes_speak_tls_and_nobody_gets_in_without_the_certificate(cluster):
    head = cluster.hosts["head"].address
    for folder in ("/tmp/other", "~/.ray/tls"):
        shown = cluster.type.run(
            cluster.laptop,
            f"openssl s_client -connect {head}:6379 -CAfile {folder}/ca.crt "
            "-cert ~/.ray/tls/node.crt -key ~/.ray/tls/node.key </dev/null 2>&1 "
            "| grep -m 1 'Verify return code'",
        ).stdout
        assert ("Verify return code: 0 (ok)" in shown) is (folder == "~/.ray/tls")
    for environment, lets_in in (
        ("RAY_AUTH_MODE=token", False),
        (tls("/tmp/other"), False),
        (tls("~/.ray/tls"), True),
    ):
        asked = cluster.type.run(
            cluster.laptop,
            f"{environment} timeout 60 ray status --address {head}:6379",
            check=False,
            lines=6,
        )
        assert (asked.returncode == 0) is lets_in
        assert ("Active:" in asked.stdout) is lets_in


def test_the_job_server_is_reached_through_ssh(cluster):
    head = cluster.hosts["head"].address
    from_outside = f"curl -s -m 5 -o /dev/null http://{head}:8265/; echo $?"
    assert cluster.type.run(cluster.laptop, from_outside).stdout.strip() == "7"  # refused
    cluster.type.run(
        cluster.laptop,
        "setsid ray dashboard cluster.yaml > dashboard.log 2>&1 < /dev/null &",
        shown="ray dashboard cluster.yaml > dashboard.log 2>&1 &",
    )
    open_here = f"curl -s -o /dev/null {cluster.url}"
    wait(lambda: cluster.laptop.run(open_here, check=False).returncode == 0, 60)
    listed = cluster.type.run(cluster.laptop, f"quarterturn list --address {cluster.url}")
    assert "no tuning jobs yet" in listed.stdout


def test_jobs_are_submitted_through_https(cluster):
    head = cluster.hosts["head"]
    server = (ROOT / "deploy/https.conf").read_text().replace("/etc/nginx/", "/tmp/nginx/")
    head.run("mkdir /tmp/nginx; cp ~/.ray/tls/node.* /tmp/nginx/")
    write(head, "/tmp/nginx/quarterturn.conf", server)
    where = "".join(
        f"{kind}_temp_path /tmp/nginx/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    write(
        head,
        "/tmp/nginx/nginx.conf",
        "user root; pid /tmp/nginx/pid; error_log /tmp/nginx/error.log; events {} "
        f"http {{ {where} access_log off; include /tmp/nginx/quarterturn.conf; }}",
    )
    head.run("/usr/sbin/nginx -e /tmp/nginx/error.log -c /tmp/nginx/nginx.conf")
    url = f"https://{head.address}:8443"
    submit = (
        "quarterturn submit --trainable digits-mlp --space sgd --name tls --trials 6 --epochs 3 "
        f"--cpus-per-trial 2 --address {url} --follow"
    )
    untrusted = cluster.type.run(cluster.laptop, submit, check=False)
    assert untrusted.returncode == 2
    assert "REQUESTS_CA_BUNDLE" in untrusted.stdout
    trusted = "REQUESTS_CA_BUNDLE=~/.ray/tls/ca.crt"
    refused = cluster.type.run(
        cluster.laptop, f"RAY_AUTH_TOKEN_PATH=/dev/null {trusted} {submit}", check=False
    )
    assert refused.returncode == 2
    assert "needs a token" in refused.stdout
    followed = cluster.type.run(cluster.laptop, f"{trusted} {submit}", timeout_s=240, lines=16)
    assert "tls@1 succeeded" in followed.stdout
    assert load_study("tls", folder=cluster.hosts.shared).finished
    report = f"{trusted} quarterturn report tls --address {url} --top 2"
    assert "tls: 6 trials" in cluster.type.run(cluster.laptop, report, lines=16).stdout
