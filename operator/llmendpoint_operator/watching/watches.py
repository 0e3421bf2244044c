"""All watches of the operator: one scope per namespace, or one for the whole cluster.

Scopes come and go without the others: a namespace that is deleted, or whose permissions are taken away, is skipped and
reported, and watched again when that is possible. If our own Lease renewals stop arriving (canary.py), kopf is started
again, then `/livez` fails, and finally the process ends, because it can no longer do its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from llmendpoint_common.process.errors import LLMEndpointError
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.watching.access import Access
from llmendpoint_operator.watching.canary import FATAL_SECONDS, Canary
from llmendpoint_operator.watching.scope import Scope

__all__ = ["Access", "Watches", "WatchesError"]

_CHECK_SECONDS = 5.0


class WatchesError(LLMEndpointError):
    """The watches are dead, and starting them again did not help. The process has to end."""


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
        #: The renewals of our Leases. Leader election reports each accepted renewal with `canary.sent`.
        self.canary = Canary()
        names = tuple(dict.fromkeys(namespaces)) or ("",)
        self._scopes = [Scope(name, inventory, access, mark, on_lease, self.canary) for name in names]
        access.discovery.on_lost = self._kind_is_lost

    @property
    def listed(self) -> bool:
        """Whether the first listing of at least one scope is done, so that reconciles have started."""
        return any(scope.feed.opened.is_set() for scope in self._scopes)

    def problems(self) -> list[str]:
        """Return the scopes and kinds that cannot be watched at present, each as a sentence with advice."""
        return [sentence for scope in self._scopes for sentence in scope.problems()]

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until `stopping` is set. Raises WatchesError if the watches are dead and the process must end."""
        tasks = [asyncio.ensure_future(scope.run()) for scope in self._scopes]
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stop.done():
                done, _ = await asyncio.wait(
                    [stop, *tasks], timeout=_CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
                if self.canary.overdue() > FATAL_SECONDS:
                    raise WatchesError(
                        "the watches are dead: the renewals of the operator's Lease have not arrived through the watch "
                        f"for {self.canary.overdue():.0f} s. The process ends, so that it can be started again."
                    )
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    def _kind_is_lost(self, kind: str) -> None:
        for scope in self._scopes:
            scope.kind_is_lost(kind)
