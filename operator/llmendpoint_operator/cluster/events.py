"""Writes Kubernetes Events, which `kubectl describe` shows."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.conditions import timestamp
from llmendpoint_operator.kube.owner import Manifest

log = logging.getLogger(__name__)

_MAX_MESSAGE = 1024


async def emit(
    objects: Objects, about: Manifest, reason: str, message: str, now: datetime, *, warning: bool = False
) -> None:
    """Write one Event about an object. If this fails, the error is logged, and the Event is dropped."""
    metadata = about["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }
    try:
        await objects.record(event)
    except API_ERRORS as error:
        log.debug("cannot write the Event %s: %s", reason, describe(error))
