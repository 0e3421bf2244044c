"""The pods of an endpoint, and what is wrong with pods that should exist but do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.snapshots import Child
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.live.children import Children
from llmendpoint_operator.endpoint.observe import Replicas, is_ready
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.classify import absent_pod_trouble
from llmendpoint_operator.pods.trouble import Trouble


class Pods:
    """The pods of all endpoints, with what the operator remembers of them between reconciles."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        #: The UID of a StatefulSet that is replaced. Its pods have no controller for a moment.
        self._replaced: dict[Key, str] = {}
        #: What was wrong with pods that do not exist. Events expire, and the reason may last.
        self._absent: dict[Key, dict[str, Trouble]] = {}
        #: When the pods of an endpoint were last seen, by name.
        self._existed: dict[Key, dict[str, datetime]] = {}

    def of(self, children: Children) -> tuple[list[Manifest], Replicas]:
        """Return the pods and their numbers. While the StatefulSet is replaced, no controller counts its pods."""
        key, statefulset = children.key, children.statefulset
        if statefulset is not None and _counts_pods(statefulset):
            self._replaced.pop(key, None)
            return self._inventory.pods(key, statefulset.uid), _replicas_of(statefulset.body)
        if statefulset is not None and statefulset.terminating:
            # The watches are independent: that of pods may show later that they have lost their controller.
            self._replaced[key] = statefulset.uid
        uids = ("", self._replaced.get(key, ""), *([statefulset.uid] if statefulset else []))
        prefix = layout.statefulset_name(children.owner)
        found = self._inventory.pods(key, *uids)
        pods = [pod for pod in found if layout.ordinal_of(pod["metadata"]["name"], prefix) is not None]
        return pods, Replicas(len(pods), sum(map(is_ready, pods)), False)

    def absent_troubles(
        self,
        children: Children,
        wanted: int,
        pods: Sequence[Manifest],
        warnings: Sequence[WarningEvent],
        now: datetime,
    ) -> dict[str, Trouble]:
        """Return what is wrong with pods that do not exist. Without a newer Event, it is what was wrong before.

        `wanted` is the number of pods that should exist, and `pods` are those that do.
        """
        key, existing = children.key, {pod["metadata"]["name"] for pod in pods}
        existed = self._existed.setdefault(key, {})
        existed.update(dict.fromkeys(existing, now))
        name = layout.statefulset_name(children.owner)
        absent = {f"{name}-{ordinal}" for ordinal in range(wanted)} - existing
        kept = {pod: trouble for pod, trouble in self._absent.get(key, {}).items() if pod in absent}
        found = kept | _absent_troubles(sorted(absent), warnings, existed, now)
        if found:
            self._absent[key] = found
        else:
            self._absent.pop(key, None)
        return found

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._replaced.pop(key, None)
        self._absent.pop(key, None)
        self._existed.pop(key, None)


def _counts_pods(statefulset: Child) -> bool:
    """Return whether a StatefulSet counts its pods: it is not being deleted, and its controller has observed it."""
    return not statefulset.terminating and "observedGeneration" in (statefulset.body.get("status") or {})


def _replicas_of(statefulset: Manifest) -> Replicas:
    status = statefulset.get("status", {})
    existing = status.get("replicas", 0)
    observed = status.get("observedGeneration", 0) >= statefulset["metadata"].get("generation", 0)
    latest = observed and status.get("updatedReplicas", existing) == existing
    return Replicas(existing, status.get("readyReplicas", 0), latest)


def _absent_troubles(
    absent: Iterable[str], warnings: Sequence[WarningEvent], existed: Mapping[str, datetime], now: datetime
) -> dict[str, Trouble]:
    """Return what the Events say about pods that do not exist, by name.

    `existed` has the times at which pods of these names were last seen.
    """
    found = {pod: absent_pod_trouble(pod, warnings, now, existed.get(pod)) for pod in absent}
    return {pod: trouble for pod, trouble in found.items() if trouble is not None}
