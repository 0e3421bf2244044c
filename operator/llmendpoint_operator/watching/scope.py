"""The watches of one scope: a namespace, or the whole cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.kinds import Role, watched
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.watching.access import Access, KindAccess
from llmendpoint_operator.watching.canary import Canary
from llmendpoint_operator.watching.feed import Feed
from llmendpoint_operator.watching.kopf_feed import KopfFeed
from llmendpoint_operator.watching.leases import Leases
from llmendpoint_operator.watching.problems import sentences
from llmendpoint_operator.watching.reflector import Reflector

log = logging.getLogger(__name__)

# Listing a busy cluster takes seconds. After this time, reconciles start with an incomplete inventory. If a child that
# has not been listed exists, its creation fails with status 409, and the operator then reads it.
_LISTING_SECONDS = 30.0
# If several kinds are lost or found together, they are reported in one sentence.
_REPORT_SECONDS = 1.5


class Scope:
    """Runs the reflectors and kopf of one scope, and reports what cannot be watched."""

    def __init__(
        self,
        name: str,
        inventory: Inventory,
        access: Access,
        mark: Callable[[Key], None],
        on_lease: Callable[[Manifest, bool], None],
        canary: Canary,
    ) -> None:
        self.name = name
        kinds = watched(name)
        self.feed = Feed(name, kinds, inventory, mark)
        self._accesses = [KindAccess(kind, self.feed, access.discovery, self._changed) for kind in kinds]
        self._reflectors = {
            item.kind.name: Reflector(access.server, item, self.feed)
            for item in self._accesses
            if not item.kind.through_kopf
        }
        through_kopf = [item for item in self._accesses if item.kind.through_kopf]
        self._kopf = KopfFeed(access.server, through_kopf, self.feed, Leases(on_lease), canary)
        self._reported: list[str] = []
        self._report_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Watch until the task is cancelled."""
        timer = asyncio.get_running_loop().call_later(_LISTING_SECONDS, self._listing_is_late)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kopf.run())
                for item in self._accesses:
                    reflector = self._reflectors.get(item.kind.name)
                    if reflector is not None:
                        group.create_task(self._reflect(reflector, item))
        finally:
            timer.cancel()
            if self._report_timer is not None:
                self._report_timer.cancel()

    def problems(self) -> list[str]:
        """Return what cannot be watched, in sentences."""
        return sentences(self.name, self._accesses)

    def kind_is_lost(self, kind: str) -> None:
        """List a kind again, because a refused write has shown that the cluster does not have it."""
        if kind in self._reflectors:
            self._reflectors[kind].list_again()

    async def _reflect(self, reflector: Reflector, access: KindAccess) -> None:
        # The owner of a Warning Event is found by the objects that are known.
        if access.kind.role is Role.REPORTED:
            await self.feed.opened.wait()
        await reflector.run()

    def _listing_is_late(self) -> None:
        if not self.feed.opened.is_set():
            log.warning(
                "the first listing of %s takes more than %g s; reconciling with the objects listed so far",
                ", ".join(self.feed.waits_for),
                _LISTING_SECONDS,
            )
            self.feed.open()

    def _changed(self, access: KindAccess) -> None:
        """Report soon, and try other lost kinds if one was found.

        Permissions often come together, and the kinds of one API group are installed one after another.
        """
        if not access.is_lost:
            if not access.kind.optional:
                self._kopf.list_again()
            for item in self._accesses:
                comes_too = not access.kind.optional or item.kind.group == access.kind.group
                if comes_too and item.is_lost and item.kind.name in self._reflectors:
                    self._reflectors[item.kind.name].list_again()
        if self._report_timer is None:
            self._report_timer = asyncio.get_running_loop().call_later(_REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._report_timer = None
        problems = self.problems()
        for sentence in problems:
            if sentence not in self._reported:
                log.warning("%s", sentence)
        if self._reported and not problems:
            log.info("everything can be watched again%s", f" in namespace {self.name}" if self.name else "")
        self._reported = problems
