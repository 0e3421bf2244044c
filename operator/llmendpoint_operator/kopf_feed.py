"""Watches the cluster with kopf, and passes all objects and events to the inventory.

Of kopf, only low-level event handlers and indices are used. Its change handlers, timers and daemons write annotations
and finalizers to users' objects, and a finalizer blocks deletion while the operator is down.

kopf passes every object to an index function first. It calls event handlers only after the index functions have
received the first listing of all kinds. The first event of any object therefore means that the inventory is complete
and that reconciles can start. Deletions are received as events only.

kopf runs in a thread with its own event loop, because it cancels all tasks of its loop when it stops, and replaces the
signal handlers of the loop. It is restarted if a missing kind appears, if it fails, and if it lists a kind a second
time. In the last case, deletions may have been missed, and a new listing of all kinds shows which objects still exist.
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

# Listing a busy cluster takes seconds. After this time, reconciles start with an incomplete inventory. If a child that
# has not been listed exists, its creation fails with status 409, and the operator then reads it.
_LISTING_SECONDS = 30.0
_KINDS = [kind.name for kind in served(frozenset())]
_FIRST_RESTART_SECONDS = 1.0
_LAST_RESTART_SECONDS = 60.0


class Feed:
    """Records objects and events in the inventory, and marks the owners that have to be reconciled."""

    def __init__(self, inventory: Inventory, mark: Callable[[Key], None]) -> None:
        self._inventory = inventory
        self._mark = mark
        self._held: set[Key] = set()
        self._first: set[str] = set()
        self._complete = True
        self._released = True
        #: Set when kopf lists a kind again after the first listing.
        self.relisted = asyncio.Event()

    @property
    def is_holding(self) -> bool:
        """Whether reconciles are waiting for the end of the first listing."""
        return bool(self._held)

    def begin(self) -> None:
        """Prepare for the first listing of all kinds. Owners are marked after its end, or after `release`."""
        for kind in _KINDS:
            self._inventory.begin_listing(kind)
        self._first.clear()
        self._complete = self._released = False
        self.relisted.clear()

    def end(self) -> None:
        """End the first listing: remove the objects that it did not contain from the inventory, and mark owners."""
        if self._complete:
            return
        self._complete = True
        for kind in _KINDS:
            self._held |= self._inventory.end_listing(kind)
        self.release()

    def release(self) -> None:
        """Mark the owners that are waiting, and mark owners immediately from now on."""
        self._released = True
        for key in self._held:
            self._mark(key)
        self._held.clear()

    def shown(self, kind: str, body: Manifest) -> None:
        """Record an object from a listing or a watch."""
        if not self._complete:
            self._first.add(body["metadata"]["uid"])
        self._dirty(self._inventory.shows(kind, body))

    def happened(self, kind: str, event: str | None, body: Manifest) -> None:
        """Process an event, after `shown` has recorded its object. `event` is None for an object from a listing."""
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
        """Watch the kinds that the cluster has until `stopping` is set. Restarts kopf if they change or if it fails."""
        pause = _FIRST_RESTART_SECONDS
        while not stopping.is_set():
            try:
                await self._discovery.look()
                await self._watch(stopping)
                pause = _FIRST_RESTART_SECONDS
            except Exception as error:
                # kopf's exception classes are not public. Possible causes are a missing permission, a kind that was
                # deleted, and an API server that cannot be reached.
                verbose = log.isEnabledFor(logging.DEBUG)
                log.error(
                    "cannot watch the cluster: %s (next attempt in %g s)", describe(error), pause, exc_info=verbose
                )
            if not stopping.is_set():
                await _first_of(stopping.wait(), asyncio.sleep(pause))
                pause = min(_LAST_RESTART_SECONDS, 2 * pause)

    async def _watch(self, stopping: asyncio.Event) -> None:
        """Run kopf until the operator stops, kopf lists a kind again, or a missing kind appears."""
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
        # The owners of children whose kind was missing can now create them.
        for key in self._inventory.resources():
            self._mark(key)

    def _listing_is_late(self) -> None:
        if self._feed.is_holding:
            log.warning(
                "the first listing takes more than %g s; reconciling with the objects listed so far", _LISTING_SECONDS
            )
        self._feed.release()


def _registry(kinds: Sequence[Kind], feed: Feed, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """Return kopf's handlers. They run in kopf's thread and pass all objects to the operator's event loop."""
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
    """Return kopf's connection settings, from the configuration of the official client.

    kopf calls this function again when a token has expired.
    """
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
            # kopf waits for `stop` in a thread of the loop's executor, and closing the loop waits for this thread.
            stop.set()


async def _first_of(*waits: Any) -> None:
    """Wait until the first of these awaitables is done, and cancel the others. Raises its exception, if any."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
