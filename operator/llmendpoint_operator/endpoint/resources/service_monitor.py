"""ServiceMonitor of an endpoint: the Prometheus Operator configures Prometheus from it."""

from __future__ import annotations

from collections.abc import Mapping

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, SCRAPE_LABEL
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner, without_reserved


def service_monitor(owner: Owner, spec: LLMEndpointSpec, labels: Mapping[str, str]) -> Manifest:
    """Return the ServiceMonitor. It adds the label `llmendpoint`, with the endpoint's name, to every series.

    `labels` are the labels of all monitors from the operator's settings. Those of the spec take precedence.
    """
    merged = without_reserved({**labels, **spec.monitoring.labels})
    return {
        **owner.child("ServiceMonitor", layout.monitor_name(owner), "monitoring", labels=merged),
        "spec": {
            "selector": {"matchLabels": {ENDPOINT_LABEL: owner.name, SCRAPE_LABEL: "true"}},
            "endpoints": [scrape_of(owner, spec)],
        },
    }


def scrape_of(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return how to scrape each pod. ServiceMonitors and PodMonitors have the same fields for it."""
    relabeling = {"action": "replace", "targetLabel": "llmendpoint", "replacement": owner.name}
    return {"port": layout.METRICS_PORT, "interval": spec.monitoring.scrape_interval, "relabelings": [relabeling]}
