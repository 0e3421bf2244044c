"""PodMonitor of an endpoint, for clusters whose Prometheus is configured from PodMonitors alone."""

from __future__ import annotations

from collections.abc import Mapping

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.resources.service_monitor import scrape_of
from llmendpoint_operator.kube.owner import Manifest, Owner, without_reserved


def pod_monitor(owner: Owner, spec: LLMEndpointSpec, labels: Mapping[str, str]) -> Manifest:
    """Return the PodMonitor. It adds the label `llmendpoint`, with the endpoint's name, to every series.

    `labels` are the labels of all monitors from the operator's settings. Those of the spec take precedence.
    """
    merged = without_reserved({**labels, **spec.monitoring.labels})
    return {
        **owner.child("PodMonitor", layout.monitor_name(owner), "monitoring", labels=merged),
        "spec": {
            "selector": {"matchLabels": layout.selector(owner)},
            "podMetricsEndpoints": [scrape_of(owner, spec)],
        },
    }
