"""Finds out why a pod with claims of dynamic resource allocation is not scheduled, or does not start.

While a ResourceClaim of a pod does not exist, the scheduler does not try to schedule the pod, and sets no condition
(`PreEnqueue` in `pkg/scheduler/framework/plugins/dynamicresources`, Kubernetes 1.35). An Event only says so if the
claim could not be created from its template.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_common.diagnosis.sentences import RESOURCE_CLAIM_NOT_CREATED, RESOURCE_CLAIMS_MUST_EXIST
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.trouble import Origin, Trouble, quoted

#: The scheduler considers a pod within milliseconds, if nothing is missing.
CONSIDERED = timedelta(seconds=10)


def claim_trouble(pod: Manifest, mine: Iterable[WarningEvent], origin: Origin, now: datetime) -> Trouble | None:
    """Return why a pod waits for a ResourceClaim, or None if it does not. `mine` are the Events about its name."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    if not origin.claims or any(item["type"] == "PodScheduled" for item in conditions):
        return None
    metadata = pod["metadata"]
    name, created = metadata["name"], datetime.fromisoformat(metadata["creationTimestamp"])
    for event in mine:
        if event.uid == metadata["uid"] and event.reason == "FailedResourceClaimCreation":
            words = (
                f"{name} cannot be scheduled: {RESOURCE_CLAIM_NOT_CREATED}: {quoted(event.message)}. Create the "
                "ResourceClaimTemplate, or correct spec.gpu.resourceClaims."
            )
            return Trouble(PodReason.UNSCHEDULABLE, words, created)
    if now - created < CONSIDERED:
        return None
    words = (
        f"{name} waits for {', '.join(origin.claims)}: {RESOURCE_CLAIMS_MUST_EXIST}. Create what is missing (kubectl "
        "get resourceclaims,resourceclaimtemplates), or correct spec.gpu.resourceClaims."
    )
    return Trouble(PodReason.UNSCHEDULABLE, words, created)
