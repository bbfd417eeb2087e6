"""What a job's trials reserve, as Ray Tune takes it."""

from __future__ import annotations

from typing import Any

from ray._private.label_utils import validate_label_selector
from ray.tune import PlacementGroupFactory

from tuner.engine.placement import GB, Reservation
from tuner.errors import InvalidInput
from tuner.job import TuningJob


def reservation_of(job: TuningJob) -> Reservation:
    """Return what each trial of a job reserves.

    Raises:
        InvalidInput: a label is not one that Ray takes.
    """
    if wrong := validate_label_selector(job.node_labels):
        rule = " ".join(wrong.split())
        raise InvalidInput(
            f"--node-label must be KEY=VALUE as Ray takes it, got {job.node_labels!r} ({rule}); "
            "use e.g. gpu=H200"
        )
    resources = {
        "CPU": job.cpus_per_trial,
        "GPU": job.gpus_per_trial,
        "memory": float(round(job.memory_gb_per_trial * GB)),
        **job.resources_per_trial,
    }
    return Reservation(
        {name: amount for name, amount in resources.items() if amount}, job.node_labels
    )


def as_placement_group(asked: Reservation) -> PlacementGroupFactory:
    """Return the reservation for Ray Tune: one bundle, on one node, with the node's labels."""
    labels: dict[str, Any] = {"bundle_label_selector": [dict(asked.labels)]} if asked.labels else {}
    return PlacementGroupFactory([dict(asked.resources)], **labels)
