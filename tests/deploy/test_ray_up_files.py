"""The files that `ray up` reads are what Ray's own schema wants, and say what must be said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "deploy/aws.yaml", "deploy/gcp.yaml")


def read(file: str) -> dict:
    return yaml.safe_load((ROOT / file).read_text())


def commands(config: dict) -> Iterator[str]:
    for key, value in config.items():
        if key.endswith("_commands"):
            yield from value


@pytest.mark.parametrize("file", FILES)
def test_ray_accepts_it(file):
    validate_config(prepare_config(read(file)))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda config: config["auth"].update(user="me"),
        lambda config: config.update(max_worker=3),
        lambda config: config.update(max_workers="many"),
        lambda config: config["provider"].update(head_ip=7),
    ],
    ids=["auth: user", "max_worker", "max_workers: many", "head_ip: 7"],
)
def test_ray_refuses_a_mistake_in_it(mistake):
    config = prepare_config(read("cluster.yaml"))
    mistake(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(config)


@pytest.mark.parametrize("file", FILES)
def test_every_command_is_one_that_bash_can_read(file):
    found = list(commands(read(file)))
    assert len(found) >= 6
    for command in found:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
        assert checked.returncode == 0, (command, checked.stderr)


@pytest.mark.parametrize("file", FILES)
def test_every_node_is_given_the_token_and_asks_for_it(file):
    config = read(file)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for role in ("head", "worker"):
        starting = [c for c in config[f"{role}_start_ray_commands"] if "ray start" in c]
        assert len(starting) == 1
        before, _, _ = starting[0].partition("ray start")
        assert "RAY_AUTH_MODE=token" in before
        assert "QUARTERTURN_FOLDER=/mnt/quarterturn" in before
        assert "chmod 600 ~/.ray/auth_token" in before


@pytest.mark.parametrize("file", FILES)
def test_what_is_installed_is_this_project_with_its_cluster_extra(file):
    config = read(file)
    mounted = config["file_mounts"]["~/quarterturn-source"]
    assert (ROOT / mounted / "pyproject.toml").exists()
    assert any("[cluster]" in command for command in config["setup_commands"])


@pytest.mark.parametrize("file", FILES[1:])
def test_clouds_rent_spot_workers_when_needed_and_an_on_demand_head(file):
    config = read(file)
    types = config["available_node_types"]
    head, gpu = types[config["head_node_type"]], types["gpu"]
    assert gpu["min_workers"] == 0
    assert 0 < gpu["max_workers"] <= config["max_workers"]
    assert gpu["resources"]["GPU"] > 0
    assert "spot" in str(gpu["node_config"]).lower()
    assert "spot" not in str(head["node_config"]).lower()
