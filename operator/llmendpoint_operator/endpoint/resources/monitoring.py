"""The ServiceMonitor, by which a Prometheus operator finds the pods."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, SCRAPE_LABEL
from llmendpoint_operator.kube.labels import child_labels
from llmendpoint_operator.kube.owner import Manifest, Owner


def service_monitor(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the ServiceMonitor; every series gets the label `llmendpoint`."""
    labels = {**spec.monitoring.labels, **child_labels(ENDPOINT_LABEL, owner.name, "monitoring")}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": owner.metadata(owner.name, labels),
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
