"""Names that the whole operator shares: the API group, labels, ports."""

from __future__ import annotations

GROUP = "llmendpoint.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "llmendpoint-operator"

ENDPOINT_LABEL = f"{GROUP}/endpoint"
LOADTEST_LABEL = f"{GROUP}/loadtest"
SCRAPE_LABEL = f"{GROUP}/scrape"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "llmendpoint"


def child_labels(owner_label: str, name: str, component: str) -> dict[str, str]:
    """Return the labels of a child: what it belongs to and what part it is."""
    return {
        owner_label: name,
        COMPONENT_LABEL: component,
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/name": "llmendpoint",
        "app.kubernetes.io/instance": name,
    }
