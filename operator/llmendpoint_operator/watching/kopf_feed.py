"""Watches our own resources and Leases with kopf, in one scope.

Of kopf, only low-level event handlers are used. Its change handlers, timers and daemons write annotations and
finalizers to users' objects, and a finalizer blocks deletion while the operator is down. Its indices cost more than
everything else (docs/decisions/0021-watches.md).

kopf fails as a whole if one kind cannot be watched, so it only gets the kinds that a listing of ours has just been
allowed to read. The listing also tells which objects exist: kopf's events do not tell which objects were deleted while
nobody watched. kopf is started again

- if it fails, after a delay,
- if a kind that it did not get can be listed now,
- if our Lease renewals do not arrive through it (canary.py),
- if it does not show an object that our listing has shown (`Confirmations`).

If kopf lists a kind again, because its watch was interrupted for too long, deletions may have been missed, and our
listing is repeated too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import kopf
import msgspec

from llmendpoint_common.process.backoff import Backoff
from llmendpoint_common.process.errors import LLMEndpointError
from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.kinds import Kind, Role
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.watching.access import KindAccess, is_refusal
from llmendpoint_operator.watching.canary import RESTART_SECONDS, Canary
from llmendpoint_operator.watching.confirmations import Confirmations, Verdict
from llmendpoint_operator.watching.feed import Feed
from llmendpoint_operator.watching.kopf_login import Login
from llmendpoint_operator.watching.kopf_storage import NoDiffBase
from llmendpoint_operator.watching.kopf_thread import KopfThread
from llmendpoint_operator.watching.leases import Leases
from llmendpoint_operator.watching.listing import list_objects
from llmendpoint_operator.watching.reflector import SILENCE_SECONDS

log = logging.getLogger(__name__)

_FIRST_RESTART_SECONDS, _LAST_RESTART_SECONDS = 1.0, 30.0
#: After a run of this length, the delays before restarts begin with the first one again.
_LONG_RUN_SECONDS = 60.0
_CHECK_SECONDS = 1.0
#: How long kopf waits for the first listing of all kinds. It is started with the kinds that were listed until then.
_START_SECONDS = 1.0
_PAGE = 100
_LEASE = "Lease"
_NEW_KIND_SECONDS = 30.0

#: Called in the operator's event loop with a kind, the type of an event (None for an object of a listing) and a body.
Received = Callable[[Kind, str | None, Manifest], None]


class DeadWatchError(LLMEndpointError):
    """A watch of kopf does not show what it has to show."""


class NotDiscoveredError(LLMEndpointError):
    """The API server serves a kind, but its discovery does not have it yet."""


class KopfFeed:
    """Lists and watches our own resources and Leases in one scope."""

    def __init__(
        self, server: ApiServer, accesses: Sequence[KindAccess], feed: Feed, leases: Leases, canary: Canary
    ) -> None:
        self._server = server
        self._accesses = {access.kind.name: access for access in accesses}
        self._feed = feed
        self._leases = leases
        self._canary = canary
        self._confirmations = Confirmations()
        self._restarts = Backoff(_FIRST_RESTART_SECONDS, _LAST_RESTART_SECONDS)
        #: Kinds whose listing is allowed, and kinds that were listed or refused at least once.
        self._allowed: set[str] = set()
        self._tried: set[str] = set()
        self._listings: dict[str, asyncio.Task[None]] = {}
        #: Set when kopf has ended, and when a kind was listed or refused.
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._thread: KopfThread | None = None

    async def run(self) -> None:
        """List and watch until the task is cancelled."""
        try:
            while True:
                self._start_listings()
                await self._until_some_are_allowed()
                started = time.monotonic()
                try:
                    await self._run_kopf(frozenset(self._allowed))
                except LLMEndpointError as error:
                    if time.monotonic() - started > _LONG_RUN_SECONDS:
                        self._restarts.reset()
                    pause = self._restarts.next()
                    where = f"in namespace {self._feed.scope}" if self._feed.scope else "in the cluster"
                    log.warning("kopf is started again %s in %.1f s: %s", where, pause, error)
                    await asyncio.sleep(pause)
                    # The reason may be a kind that was refused. Listings show which one.
                    self._allowed.clear()
        finally:
            for task in self._listings.values():
                task.cancel()
            await asyncio.gather(*self._listings.values(), return_exceptions=True)

    def list_again(self) -> None:
        """Try the kinds that cannot be listed immediately: a permission or a kind may have come."""
        for access in self._accesses.values():
            access.reset()
        self._hurry.set()
        self._hurry = asyncio.Event()

    def _start_listings(self) -> None:
        for name, access in self._accesses.items():
            task = self._listings.get(name)
            if name not in self._allowed and (task is None or task.done()):
                self._tried.discard(name)
                self._listings[name] = asyncio.ensure_future(self._until_listed(access))

    async def _until_listed(self, access: KindAccess) -> None:
        name = access.kind.name
        while True:
            try:
                await self._list(access)
                await self._check_discovery(access.kind)
            except (*API_ERRORS, msgspec.MsgspecError, NotDiscoveredError) as error:
                pause = access.fails(error)
                self._tried.add(name)
                self._wake.set()
                await _first_of(self._hurry.wait(), asyncio.sleep(pause))
            else:
                self._allowed.add(name)
                self._tried.add(name)
                self._wake.set()
                return

    async def _check_discovery(self, kind: Kind) -> None:
        """Raise NotDiscoveredError if discovery lacks a kind that can be listed, because it has just been created.

        kopf reads discovery at its start, and does not watch a kind that it does not find there.
        """
        found = await self._server.request("GET", f"/apis/{kind.group}/{kind.version}")
        if all(resource["name"] != kind.plural for resource in found["resources"]):
            raise NotDiscoveredError(f"discovery does not have the kind {kind.name} yet")

    async def _list(self, access: KindAccess) -> None:
        """List one kind. Raises one of `API_ERRORS`."""
        kind, uids = access.kind, list[str]()
        is_lease = kind.role is Role.COORDINATED

        def begin() -> None:
            uids.clear()
            self._leases.begin() if is_lease else self._feed.begin(kind)

        def show(body: Manifest) -> None:
            uids.append(body["metadata"]["uid"])
            self._leases.show(body) if is_lease else self._feed.show(kind, body)

        await list_objects(self._server, kind, self._feed.scope, begin, show)
        if is_lease:
            self._leases.end()
        self._confirmations.listed(kind.name, uids)
        access.works()

    async def _until_some_are_allowed(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._allowed or (self._tried < self._accesses.keys() and time.monotonic() < deadline):
            self._wake.clear()
            await _first_of(self._wake.wait(), asyncio.sleep(_START_SECONDS))

    async def _run_kopf(self, kinds: frozenset[str]) -> None:
        """Run kopf until another kind is allowed too. Raises if kopf ends, or if a watch is dead."""
        if _LEASE not in kinds:
            # Without a watch of Leases, renewals prove nothing.
            self._canary.forget(self._feed.scope or None)
        self._confirmations.start(kinds)
        served = [self._accesses[name].kind for name in sorted(kinds)]
        loop = asyncio.get_running_loop()

        def forward(kind: Kind, event: str | None, body: Manifest) -> None:
            loop.call_soon_threadsafe(self._received, thread, kind, event, body)

        thread = self._thread = KopfThread(
            _registry(served, forward), partial(_configure, served), self._feed.scope, self._wake.set
        )
        started = time.monotonic()
        try:
            while kinds >= self._allowed and not self._has_new_kind(kinds, started):
                self._wake.clear()
                if thread.ended.is_set():
                    raise thread.error
                await self._check(kinds, time.monotonic() - started)
                await _first_of(self._wake.wait(), asyncio.sleep(_CHECK_SECONDS))
        finally:
            self._thread = None
            await thread.end()

    def _has_new_kind(self, kinds: frozenset[str], started: float) -> bool:
        """Return whether to start kopf again for a kind that had just been created at the last start.

        With several API servers, the one that kopf asked may not have known it yet.
        """
        found = (self._accesses[name].found_at for name in kinds)
        is_due = time.monotonic() - started > _NEW_KIND_SECONDS
        return is_due and any(at is not None and 0 <= started - at < _NEW_KIND_SECONDS for at in found)

    async def _check(self, kinds: frozenset[str], age: float) -> None:
        """Compare what kopf shows with what it has to show. Raises if a watch is dead."""
        scope = self._feed.scope or None
        if _LEASE not in kinds:
            self._canary.forget(scope)
        overdue = self._canary.overdue(scope)
        if min(age, overdue) > RESTART_SECONDS:
            raise DeadWatchError(f"its watch of Leases has not shown a renewal that was accepted {overdue:.0f} s ago")
        verdict = self._confirmations.check()
        if verdict is Verdict.RESTART:
            raise DeadWatchError("it does not show an object that a listing shows")
        if verdict is Verdict.LIST:
            for name in kinds:
                try:
                    await self._list(self._accesses[name])
                except (*API_ERRORS, msgspec.MsgspecError) as error:
                    self._accesses[name].fails(error)
                    if is_refusal(error):
                        raise DeadWatchError(describe(error)) from error

    def _received(self, thread: KopfThread, kind: Kind, event: str | None, body: Manifest) -> None:
        """Process an event, unless it is from an earlier run of kopf."""
        if thread is not self._thread:
            return
        metadata = body["metadata"]
        self._confirmations.shown(kind.name, metadata["uid"], event)
        if kind.role is Role.COORDINATED:
            # kopf lists again whenever it is started. A listing does not prove that the watch delivers events.
            if event is not None:
                self._canary.seen(metadata["namespace"], int(metadata["resourceVersion"]))
            self._leases.gone(body) if event == "DELETED" else self._leases.show(body)
        elif event == "DELETED":
            self._feed.gone(kind, body)
        else:
            self._feed.show(kind, body)


def _registry(kinds: Iterable[Kind], forward: Received) -> kopf.OperatorRegistry:
    """Return kopf's handlers. They run in kopf's thread, and pass all events to the operator's event loop."""
    registry = kopf.OperatorRegistry()
    Login().register(registry)
    for kind in kinds:
        handler = partial(_event, forward, kind)
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(handler)
    return registry


def _configure(kinds: Iterable[Kind], settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.watching.chunk_size = _PAGE
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    # kopf's workers only pass events on, so there is nothing to wait for at the end.
    settings.queueing.exit_timeout = 0.1
    # kopf has a task with a queue for each object, which keeps the last body. After a listing, all of them exist.
    settings.queueing.idle_timeout = 0.5
    # kopf fails after about half a minute of errors, and is then started again.
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5, 5, 5, 5, 5)
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    # kopf would kill the process ten minutes after it has failed.
    settings.process.ultimate_exiting_timeout = None
    for kind in kinds:
        for name, selector in kind.selectors:
            if name == "labelSelector":
                settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector


async def _event(
    forward: Received,
    kind: Kind,
    /,
    *,
    body: kopf.Body,
    type: str | None,  # noqa: A002 - kopf passes it by this name
    **_: Any,
) -> None:
    forward(kind, type, dict(body))


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
