"""The table of the kinds that the dashboard watches. Its RBAC rules in the chart come from it (`make generate`).

The dashboard only lists and watches. It reads no Secrets, no ConfigMaps and no pods: conditions say what pods lack, and
EndpointSlices have the addresses of the sidecars.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import (
    GROUP,
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_SCHEDULE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SCRAPE_LABEL,
    VERSION,
)

_VERBS = ("list", "watch")


@dataclass(frozen=True)
class Kind:
    """The address of a kind in the API. `labels` is a selector: only the objects that it selects are watched."""

    group: str
    version: str
    name: str
    plural: str
    labels: str = ""

    def path(self, namespace: str) -> str:
        """Return the path of all objects in a namespace, or in all namespaces if `namespace` is empty."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{self.group}/{self.version}{scope}/{self.plural}"

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The query parameters that select the objects."""
        return (("labelSelector", self.labels),) if self.labels else ()


ENDPOINTS = Kind(GROUP, VERSION, LLMENDPOINT, "llmendpoints")
LOADTESTS = Kind(GROUP, VERSION, LOADTEST, "loadtests")
SCHEDULES = Kind(GROUP, VERSION, LOADTEST_SCHEDULE, "loadtestschedules")
#: Slices have the labels of their Service. Only the headless Services of endpoints have the label for scraping.
SLICES = Kind(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    f"{MANAGED_BY_LABEL}={MANAGED_BY},{SCRAPE_LABEL}=true",
)

TABLE = (ENDPOINTS, LOADTESTS, SCHEDULES, SLICES)


def rules(table: Iterable[Kind] = TABLE) -> list[dict[str, list[str]]]:
    """Return the RBAC rules of the dashboard, one per API group."""
    plurals: dict[str, list[str]] = {}
    for kind in table:
        plurals.setdefault(kind.group, []).append(kind.plural)
    return [{"apiGroups": [group], "resources": names, "verbs": list(_VERBS)} for group, names in plurals.items()]
