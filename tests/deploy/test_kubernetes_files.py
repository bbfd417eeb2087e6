"""The Kubernetes manifests are what KubeRay's and Kubernetes' own schemas want."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tuner.engine.resources import may_have

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"
RAYJOB = json.loads((Path(__file__).parent / "kuberay_rayjob_v1.json").read_text())


def closed(schema: Any) -> Any:
    """Return a schema that refuses what Kubernetes would silently drop: unknown fields."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    fields = schema.get("properties")
    if (
        isinstance(fields, dict)
        and schema.get("type") == "object"
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        made["additionalProperties"] = False
    return made


@cache
def validator_of(kind: str) -> Any:
    """Return what validates documents of a kind; to check the schema itself takes a second."""
    job = copy.deepcopy(RAYJOB)
    job["properties"]["metadata"] = {"type": "object"}
    if kind == "RayCluster":
        job["properties"]["spec"] = job["properties"]["spec"]["properties"]["rayClusterSpec"]
        job["properties"].pop("status")
    schema = closed(job)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    return validator(schema)


def manifest(file: str) -> dict:
    return yaml.safe_load((FOLDER / file).read_text())


def cluster_of(manifest: dict) -> dict:
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


RAY_FILES = ("raycluster.yaml", "rayjob.yaml")


@pytest.mark.parametrize("file", RAY_FILES)
def test_kuberays_schema_accepts_it(file):
    document = manifest(file)
    assert document["apiVersion"] == "ray.io/v1"
    validator_of(document["kind"]).validate(document)


@pytest.mark.parametrize("file", RAY_FILES)
@pytest.mark.parametrize(
    "mistake",
    [
        lambda spec: spec.update(authOption={"mode": "token"}),
        lambda spec: spec["authOptions"].update(mode="password"),
        lambda spec: spec["workerGroupSpecs"][0].update(maxReplica=3),
        lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].pop("name"),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
    ],
    ids=["authOption", "password", "maxReplica", "no name", "a number as a start parameter"],
)
def test_a_mistake_in_it_is_found(file, mistake):
    document = manifest(file)
    mistake(cluster_of(document))
    with pytest.raises(jsonschema.ValidationError):
        validator_of(document["kind"]).validate(document)


def test_kubernetes_schema_accepts_the_volume():
    kubernetes_validate.validate(manifest("storage.yaml"), "1.31", strict=True)
    wrong = manifest("storage.yaml")
    wrong["spec"]["accessMode"] = wrong["spec"].pop("accessModes")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


@pytest.mark.parametrize("file", RAY_FILES)
def test_every_pod_is_one_that_kubernetes_accepts(file):
    spec = cluster_of(manifest(file))
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert len(groups) == 2
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        claim = volumes["studies"]["persistentVolumeClaim"]["claimName"]
        assert claim == manifest("storage.yaml")["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        folder = {env["name"]: env["value"] for env in container["env"]}["QUARTERTURN_FOLDER"]
        assert mounts["studies"] == folder


@pytest.mark.parametrize("file", RAY_FILES)
def test_what_may_come_is_what_the_workers_are(file, monkeypatch):
    spec = cluster_of(manifest(file))
    assert spec["authOptions"]["mode"] == "token"
    (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    env = {item["name"]: item["value"] for item in head["env"]}
    monkeypatch.setenv("QUARTERTURN_MAY_HAVE", env["QUARTERTURN_MAY_HAVE"])
    (kind,) = may_have()
    (group,) = spec["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    limits = worker["resources"]["limits"]
    gpus = int(limits["nvidia.com/gpu"])
    assert kind.resources == {"CPU": int(limits["cpu"]), "GPU": gpus}
    assert kind.most == group["maxReplicas"]


def test_the_image_has_the_ray_that_the_manifests_name():
    docker = (FOLDER.parent / "Dockerfile").read_text()
    (version,) = re.findall(r"rayproject/ray:([\d.]+)-py311", docker)
    constraints = (FOLDER.parents[1] / "constraints.txt").read_text()
    assert f"ray=={version}\n" in constraints
    for file in RAY_FILES:
        assert cluster_of(manifest(file))["rayVersion"] == version
