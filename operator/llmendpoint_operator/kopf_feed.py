"""kopf's watches, and what becomes of their events.

Of kopf, only low-level event handlers and indices are used: its change handlers, timers and daemons write annotations
and finalizers into users' objects, which breaks deletion while the operator is down.

Every object goes through an index function first. kopf calls no event handler before the index functions have seen the
first listing of all kinds: so the first event of any object means that the inventory is complete, and reconciles may
begin. Deletions arrive as events only.

kopf runs in a thread with an event loop of its own, because it cancels every task of its loop when it stops, and takes
the loop's signal handlers. It is started again if a missing kind appears, if it fails, and if it had to list a kind a
second time: then deletions may have been missed, and a new listing of all kinds shows what is gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import kopf
import uvloop

from llmendpoint_common.contracts.cluster import MANAGED_BY, MANAGED_BY_LABEL
from llmendpoint_operator.cluster.client import load_configuration
from llmendpoint_operator.cluster.discovery import Discovery, served
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.kinds import Kind, Role
from llmendpoint_operator.kube.owner import Manifest

log = logging.getLogger(__name__)

# Listing a busy cluster takes seconds. After this time, reconciles begin with what is known: a child that is not known
# is found by the 409 that its creation gets.
_LISTING_SECONDS = 30.0
_FIRST_RESTART_SECONDS = 1.0
_LAST_RESTART_SECONDS = 60.0


class Feed:
    """Takes events into the inventory and marks the owners that they make dirty."""

    def __init__(self, inventory: Inventory, mark: Callable[[Key], None]) -> None:
        self._inventory = inventory
        self._mark = mark
        self._held: set[Key] = set()
        self._first: set[str] = set()
        self._complete = True
        self._released = True
        #: Set when a kind was listed again by itself.
        self.relisted = asyncio.Event()

    @property
    def is_holding(self) -> bool:
        """Whether reconciles wait for the end of the first listing."""
        return bool(self._held)

    def begin(self) -> None:
        """Expect the first listing of all kinds; until its end, nothing is marked."""
        self._inventory.begin_listing()
        self._first.clear()
        self._complete = self._released = False
        self.relisted.clear()

    def end(self) -> None:
        """Take the end of the first listing: what it did not show no longer exists."""
        if self._complete:
            return
        self._complete = True
        self._held |= self._inventory.end_listing()
        self.release()

    def release(self) -> None:
        """Mark what is dirty from now on."""
        self._released = True
        for key in self._held:
            self._mark(key)
        self._held.clear()

    def shown(self, kind: str, body: Manifest) -> None:
        """Take an object as a listing or a watch shows it."""
        if not self._complete:
            self._first.add(body["metadata"]["uid"])
        self._dirty(self._inventory.shows(kind, body))

    def happened(self, kind: str, event: str | None, body: Manifest) -> None:
        """Take an event, after `shown` took its object. The event of a listed object has no type."""
        self.end()
        uid = body["metadata"]["uid"]
        if event == "DELETED":
            self._dirty(self._inventory.gone(kind, body))
        elif event is None and uid not in self._first:
            self.relisted.set()
        self._first.discard(uid)

    def _dirty(self, key: Key | None) -> None:
        if key is None:
            return
        if self._released:
            self._mark(key)
        else:
            self._held.add(key)


class Watches:
    """Runs kopf until the operator stops."""

    def __init__(
        self, inventory: Inventory, discovery: Discovery, mark: Callable[[Key], None], namespaces: Sequence[str]
    ) -> None:
        self._inventory = inventory
        self._discovery = discovery
        self._mark = mark
        self._namespaces = tuple(namespaces)
        self._feed = Feed(inventory, mark)

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch the kinds that the cluster has, and begin anew when they change."""
        pause = _FIRST_RESTART_SECONDS
        while not stopping.is_set():
            try:
                await self._discovery.look()
                await self._watch(stopping)
                pause = _FIRST_RESTART_SECONDS
            except Exception as error:
                # kopf's own errors are not public: no permission to watch, a kind that is gone, no API server.
                verbose = log.isEnabledFor(logging.DEBUG)
                log.error("watching failed: %s (next try in %g s)", describe(error), pause, exc_info=verbose)
            if not stopping.is_set():
                await _first_of(stopping.wait(), asyncio.sleep(pause))
                pause = min(_LAST_RESTART_SECONDS, 2 * pause)

    async def _watch(self, stopping: asyncio.Event) -> None:
        """Run kopf once, until there is a reason to stop it."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        kinds = served(self._discovery.missing)
        self._feed.begin()
        timer = loop.call_later(_LISTING_SECONDS, self._listing_is_late)
        kopf_thread = loop.run_in_executor(None, _run_kopf, _registry(kinds, self._feed, loop), self._namespaces, stop)
        try:
            reasons = (stopping.wait(), self._feed.relisted.wait(), self._discovery.until_one_appears())
            await _first_of(asyncio.shield(kopf_thread), *reasons)
        finally:
            timer.cancel()
            stop.set()
            await kopf_thread
        # Owners of children whose kind was missing.
        for key in self._inventory.resources():
            self._mark(key)

    def _listing_is_late(self) -> None:
        if self._feed.is_holding:
            log.warning("listing takes more than %g s; reconciling with what is known so far", _LISTING_SECONDS)
        self._feed.release()


def _registry(kinds: Sequence[Kind], feed: Feed, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """Return kopf's handlers. They run in kopf's thread and pass everything on to the operator's event loop."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        for kind in kinds:
            if kind.role is not Role.RESOURCE:
                settings.watching.label_selectors[kind.plural] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await _credentials()

    for kind in kinds:
        address = (kind.group, kind.version, kind.plural)
        kopf.index(*address, registry=registry, id=f"index-{kind.plural}")(partial(_index, loop, feed, kind.name))
        kopf.on.event(*address, registry=registry, id=kind.plural)(partial(_event, loop, feed, kind.name))
    return registry


async def _index(loop: asyncio.AbstractEventLoop, feed: Feed, kind: str, /, *, body: kopf.Body, **_: Any) -> None:
    loop.call_soon_threadsafe(feed.shown, kind, dict(body))


async def _event(
    loop: asyncio.AbstractEventLoop,
    feed: Feed,
    kind: str,
    /,
    *,
    body: kopf.Body,
    type: str | None,  # noqa: A002 - kopf passes it by this name
    **_: Any,
) -> None:
    loop.call_soon_threadsafe(feed.happened, kind, type, dict(body))


async def _credentials() -> kopf.ConnectionInfo:
    """Return what kopf needs to connect, as the official client finds it. kopf asks again when a token has expired."""
    configuration = await load_configuration()
    scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def _run_kopf(registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], stop: threading.Event) -> None:
    """Run kopf until `stop` is set, or until it fails."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(
                kopf.operator(
                    registry=registry,
                    standalone=True,
                    clusterwide=not namespaces,
                    namespaces=namespaces,
                    stop_flag=stop,
                )
            )
        finally:
            # A thread of the loop's executor waits for it, and the loop waits for the thread.
            stop.set()


async def _first_of(*waits: Any) -> None:
    """Return when the first of these is done, and cancel the others. Its exception is raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
