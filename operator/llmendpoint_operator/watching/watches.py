"""All watches of the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmendpoint_operator.cluster.client import ApiServer
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.watching.canary import Canary


@dataclass(frozen=True)
class Access:
    """The API server, and the kinds that it does not serve."""

    server: ApiServer
    discovery: Discovery


class Watches:
    """Keeps the inventory up to date, and marks the owners that have to be reconciled.

    `namespaces` are the namespaces to watch; if there are none, the whole cluster is watched. `on_lease` is called with
    each Lease that has our label, and with whether it was deleted.
    """

    def __init__(
        self,
        inventory: Inventory,
        access: Access,
        mark: Callable[[Key], None],
        namespaces: Sequence[str],
        on_lease: Callable[[Manifest, bool], None],
    ) -> None:
        self._inventory = inventory
        self._access = access
        self._mark = mark
        self._namespaces = tuple(namespaces)
        self._on_lease = on_lease
        #: The renewals of our Leases. Leader election reports each accepted renewal with `canary.sent`.
        self.canary = Canary()

    @property
    def listed(self) -> bool:
        """Whether the first listing of at least one scope is done, so that reconciles have started."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """Return the scopes and kinds that cannot be watched at present, each as a sentence with advice."""
        raise NotImplementedError

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until `stopping` is set. Raises WatchesError if the watches are dead and the process must end."""
        raise NotImplementedError
