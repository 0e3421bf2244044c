"""The existing children of an endpoint, as the watches show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.snapshots import Child
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.autoscaling import KINDS_OF_ACTUATORS
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.kube.scraping import MONITORS, Scraping, scraping
from llmendpoint_operator.kube.unwatched import Unwatched
from llmendpoint_operator.settings import Actuator


@dataclass(frozen=True)
class Children:
    """The objects that an endpoint controls. Another object with the name of a child counts as absent."""

    inventory: Inventory
    key: Key
    owner: Owner

    def get(self, kind: str, name: str) -> Child | None:
        """Return a child, or None if it does not exist."""
        return self.inventory.own_child(self.key, kind, name, self.owner.uid)

    @property
    def statefulset(self) -> Child | None:
        """The StatefulSet."""
        return self.get("StatefulSet", layout.statefulset_name(self.owner))

    @property
    def service_account(self) -> Child | None:
        """The ServiceAccount of the pods, if the operator has created one."""
        return self.get("ServiceAccount", layout.service_account_name(self.owner))

    @property
    def present_replicas(self) -> int | None:
        """The number of pods in the spec of the StatefulSet, or None if there is no StatefulSet."""
        statefulset = self.statefulset
        return None if statefulset is None else statefulset.body.get("spec", {}).get("replicas")

    @property
    def pods(self) -> list[Manifest]:
        """The pods that the StatefulSet controls."""
        statefulset = self.statefulset
        return self.inventory.pods(self.key, statefulset.uid) if statefulset else []

    @property
    def has_client_service(self) -> bool:
        """Whether the Service that clients use exists."""
        return self.get("Service", layout.client_service_name(self.owner)) is not None

    def autoscaler(self, actuator: Actuator | None) -> Manifest | None:
        """Return the object with which this actuator scales the endpoint."""
        if actuator is None:
            return None
        child = self.get(KINDS_OF_ACTUATORS[actuator], layout.autoscaler_name(self.owner))
        return None if child is None else child.body

    def monitor(self, mode: MonitoringMode) -> Child | None:
        """Return the object from which Prometheus knows the pods if they are scraped in this way (never Auto)."""
        if mode is MonitoringMode.ANNOTATIONS:
            return self.get("Service", layout.headless_service_name(self.owner))
        return self.get(mode.value, layout.monitor_name(self.owner))

    def scraping(self, mode: MonitoringMode) -> Scraping | None:
        """Return which Prometheus servers select the monitor, or None if the operator cannot know this."""
        monitor, servers = self.monitor(mode), self.inventory.prometheus_servers()
        if monitor is None or servers is None or mode.value not in MONITORS:
            return None
        return scraping(mode.value, self.owner.namespace, monitor.body["metadata"].get("labels") or {}, servers)

    def deleting(self, names: Iterable[ChildKey]) -> tuple[str, ...]:
        """Return the names of those of these children that are being deleted."""
        found = ((name, self.get(*name)) for name in names)
        return tuple(str(name) for name, child in found if child is not None and child.terminating)

    def unwatched(self, *kinds: str) -> tuple[Unwatched, ...]:
        """Return those of these kinds that the operator may not watch in the namespace of the endpoint."""
        return self.inventory.unwatched(self.owner.namespace, kinds)
