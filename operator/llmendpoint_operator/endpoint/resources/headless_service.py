"""Headless Service of an endpoint: DNS names of the pods, and their metrics, ready or not.

Only this Service has the label that the ServiceMonitor selects. If the client Service had it too, every pod would be
scraped twice. The annotations are those that many scrape configurations read, for example the job
`kubernetes-service-endpoints` of Prometheus' own example. They are not on the pods, because another annotation of the
pod template would restart the pods when the kind ServiceMonitor appears in the cluster, or goes.
"""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import SCRAPE_LABEL
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner

_ANNOTATIONS = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(ADMIN_PORT),
    "prometheus.io/path": "/metrics",
}


def headless_service(owner: Owner, *, annotated: bool = False) -> Manifest:
    """Return the Service. If `annotated` is true, it has the annotations from which Prometheus scrapes the pods."""
    port = {"name": layout.METRICS_PORT, "port": ADMIN_PORT, "targetPort": layout.METRICS_PORT, "protocol": "TCP"}
    name, labels = layout.headless_service_name(owner), {SCRAPE_LABEL: "true"}
    return {
        **owner.child("Service", name, "pods", labels=labels, annotations=_ANNOTATIONS if annotated else None),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": layout.selector(owner),
            "ports": [port],
        },
    }
