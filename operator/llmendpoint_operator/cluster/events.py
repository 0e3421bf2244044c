"""Events for what a person would look for with `kubectl describe`."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster.objects import TRANSIENT, Objects
from llmendpoint_operator.kube.conditions import timestamp
from llmendpoint_operator.kube.owner import Manifest

log = logging.getLogger(__name__)


async def emit(
    objects: Objects, about: Manifest, reason: str, message: str, now: datetime, *, warning: bool = False
) -> None:
    """Write one Event about an object; an Event that cannot be written is no reason to stop."""
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
        "message": message[:1024],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }
    try:
        await objects.create(event)
    except TRANSIENT as error:
        log.debug("event not written: %s", error)
