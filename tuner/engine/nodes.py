"""What Ray says of its nodes: those that are up, and whether others may join."""

from __future__ import annotations

import json
from typing import Any

import ray
from ray import _raylet
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get

from tuner.engine.placement import Node


def nodes_up() -> list[Node]:
    """Return the nodes that are alive, with everything they have, used or not."""
    return [
        Node(
            name=node["NodeManagerAddress"],
            resources=dict(node["Resources"]),
            labels=dict(node["Labels"]),
            id=node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def may_grow() -> bool:
    """Whether an autoscaler watches the cluster, which may bring nodes of other kinds.

    Neither of Ray's autoscalers tells everyone what kinds it may start. The older one runs even
    where there is nothing to scale, and then names the kind of each node after the node.
    """
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    told: dict[str, Any] = json.loads(status) if status else {}
    kinds = (told.get("autoscaler_report") or {}).get("node_type_mapping") or {}
    if any(kind != f"node_{node}" for node, kind in kinds.items()):
        return True
    raylet: Any = _raylet
    of = raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    newer = _internal_kv_get(raylet.GCS_AUTOSCALER_V2_ENABLED_KEY, namespace=of) == b"1"
    return newer or bool(_internal_kv_get(raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, namespace=of))
