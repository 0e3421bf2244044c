"""Metrics about the resources that this process serves, computed from the inventory when they are scraped.

Only the process that serves a namespace exposes its resources, so that no series exists twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_operator.admin.endpoint_series import endpoint_families
from llmendpoint_operator.admin.lines import Family
from llmendpoint_operator.admin.loadtest_series import loadtest_families
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.endpoint.live.children import Children
from llmendpoint_operator.kube.owner import Manifest, owner_of

#: Resources per piece of text. The event loop can do other work after each piece.
_BATCH = 50
#: Phases in which a pod no longer occupies the resources of its node.
_ENDED = ("Succeeded", "Failed")


class ResourceSeries:
    """Renders the metrics of all resources in namespaces that this process serves."""

    def __init__(self, inventory: Inventory, serves: Callable[[str], bool]) -> None:
        self._inventory = inventory
        self._serves = serves

    def render(self, *, openmetrics: bool) -> Iterator[bytes]:
        """Yield the families as text. It is the same in both formats."""
        yield from self._families(LLMENDPOINT, endpoint_families(self._scheduled))
        yield from self._families(LOADTEST, loadtest_families())

    def _families(self, kind: str, families: Sequence[Family]) -> Iterator[bytes]:
        """Yield the families of a kind. Each resource is decoded once; an empty piece lets other work run meanwhile."""
        keys = sorted(key for key in self._inventory.resources() if key.kind == kind and self._serves(key.namespace))
        texts = [[f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n".encode()] for family in families]
        for begin in range(0, len(keys), _BATCH):
            found = [self._inventory.resource(key) for key in keys[begin : begin + _BATCH]]
            for family, text in zip(families, texts, strict=True):
                lines = (line for body in found if body for line in family.lines(family.name, body))
                text.append("".join(lines).encode())
                yield b""
        for text in texts:
            yield b"".join(text)

    def _scheduled(self, body: Manifest) -> int:
        """Return the number of pods of an endpoint that occupy a node."""
        owner = owner_of(body)
        children = Children(self._inventory, Key(LLMENDPOINT, owner.namespace, owner.name), owner)
        return sum(_occupies_a_node(pod.get("status") or {}) for pod in children.pods)


def _occupies_a_node(status: Manifest) -> bool:
    is_scheduled = any(
        row["type"] == "PodScheduled" and row["status"] == "True" for row in status.get("conditions") or []
    )
    return is_scheduled and status.get("phase") not in _ENDED
