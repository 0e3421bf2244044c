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
