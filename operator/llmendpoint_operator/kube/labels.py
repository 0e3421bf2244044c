"""Labels of the objects that the operator makes."""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL


def child_labels(owner_label: str, name: str, component: str) -> dict[str, str]:
    """Return the labels of a child: what it belongs to and what part it is."""
    return {
        owner_label: name,
        COMPONENT_LABEL: component,
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/name": "llmendpoint",
        "app.kubernetes.io/instance": name,
    }
