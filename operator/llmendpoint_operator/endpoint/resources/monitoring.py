"""The ServiceMonitor, by which a Prometheus operator finds the pods."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, SCRAPE_LABEL
from llmendpoint_operator.kube.owner import Manifest, Owner


def service_monitor(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the ServiceMonitor; every series gets the label `llmendpoint`."""
    return {
        **owner.child("ServiceMonitor", owner.name, "monitoring", labels=spec.monitoring.labels),
        "spec": {
            "selector": {"matchLabels": {ENDPOINT_LABEL: owner.name, SCRAPE_LABEL: "true"}},
            "endpoints": [
                {
                    "port": "metrics",
                    "interval": spec.monitoring.interval,
                    "relabelings": [{"action": "replace", "targetLabel": "llmendpoint", "replacement": owner.name}],
                }
            ],
        },
    }
