"""Headless Service of an endpoint: DNS names of the pods, and their metrics, ready or not.

Only this Service has the label that the ServiceMonitor selects. If the client Service had it too, every pod would be
scraped twice.
"""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import SCRAPE_LABEL
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner


def headless_service(owner: Owner) -> Manifest:
    """Return the Service."""
    port = {"name": layout.METRICS_PORT, "port": ADMIN_PORT, "targetPort": layout.METRICS_PORT, "protocol": "TCP"}
    return {
        **owner.child("Service", layout.headless_service_name(owner), "pods", labels={SCRAPE_LABEL: "true"}),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": layout.selector(owner),
            "ports": [port],
        },
    }
