"""Keeps the objects of one kind in one scope up to date in a store: lists them, then watches them.

A reflector never ends by itself, whatever the API server answers, and none waits for another:

the API server                              the reflector
ends a watch                                watches again from the version that it saw last
answers 410 (Gone), or that the version     lists again; what the listing does not show no longer exists
is too large, to a watch
answers 410 to the next page of a listing   lists again from the start
answers 429, 5xx, or nothing                tries again after a delay of up to 10 s
refuses (401, 403), or lacks the kind (404) tries again after a delay of up to 60 s
is silent for `SILENCE_SECONDS`             watches again on a new connection

The API server sends a bookmark about once per minute if nothing happens, so silence means that the connection is dead.
A listing is read page by page, so that its memory is that of one page.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

import msgspec
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.process.backoff import Backoff
from llmendpoint_dashboard.cluster.client import API_ERRORS, ApiServer, describe, is_refusal
from llmendpoint_dashboard.cluster.kinds import Kind

log = logging.getLogger(__name__)

#: An object, as read from the API.
Manifest: TypeAlias = dict[str, Any]

#: After this silence, the connection of a watch is taken for dead. The API server may send no bookmarks of a kind of
#: which it has not seen an event since its start, so the time doubles each time.
SILENCE_SECONDS = 75.0
_LAST_SILENCE_SECONDS = 600.0
_PAGE = 100
#: When the pages of a listing have expired twice, the listing is repeated as one page.
_PAGE_ATTEMPTS = 2
#: A watch that ends sooner than this does not count as a success.
_SHORT_SECONDS = 5.0


class Store(Protocol):
    """Receives the objects of a reflector."""

    def begin(self, scope: str) -> None:
        """Start a listing of a scope."""

    def show(self, body: Manifest) -> None:
        """Record an object from a listing or a watch."""

    def gone(self, body: Manifest) -> None:
        """Record the deletion of an object."""

    def end(self, scope: str) -> None:
        """End a listing: objects of the scope that it has not shown no longer exist."""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _Meta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - a field of the API
    continuation: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


class _ExpiredError(Exception):
    """The version from which to watch is not available. The objects have to be listed again."""


_events = msgspec.json.Decoder(_Event)
_statuses = msgspec.json.Decoder(_Status)
_pages = msgspec.json.Decoder(_Page)
_objects = msgspec.json.Decoder(dict)


class Reflector:
    """Lists and watches one kind in one scope, which is a namespace, or all namespaces if it is empty."""

    def __init__(self, server: ApiServer, kind: Kind, scope: str, store: Store) -> None:
        self._server = server
        self.kind = kind
        self.scope = scope
        self._store = store
        self._failing = Backoff(0.5, 10.0)
        self._refused = Backoff(1.0, 60.0)
        self._pauses = Backoff(0.1, 10.0)
        self._silence = SILENCE_SECONDS
        #: Set when the objects were listed for the first time.
        self.listed = asyncio.Event()
        #: Why the objects are not up to date, in words. Empty while they are.
        self.trouble = ""
        #: Whether the API server refuses, which only a person can change.
        self.is_refused = False
        #: Whether the cluster does not have the kind.
        self.is_absent = False

    async def run(self) -> None:
        """List and watch until the task is cancelled."""
        while True:
            try:
                version = await self._list()
                self._works()
                self._refused.reset()
                self.listed.set()
                await self._watch(version)
            except _ExpiredError:
                await asyncio.sleep(self._pauses.next())
            except Exception as error:
                # Whatever a response contains, it must not end the other watches.
                if not isinstance(error, API_ERRORS):
                    log.warning("the watch of %s failed: %r", self.kind.plural, error)
                await asyncio.sleep(self._fails(error))

    async def _list(self) -> str:
        """Pass all objects to the store, and return the resourceVersion of the listing. Raises one of `API_ERRORS`."""
        for attempt in range(_PAGE_ATTEMPTS + 1):
            self._store.begin(self.scope)
            try:
                version = await self._list_once(_PAGE if attempt < _PAGE_ATTEMPTS else 0)
            except ApiException as error:
                if error.status != HTTPStatus.GONE or attempt == _PAGE_ATTEMPTS:
                    raise
            else:
                self._store.end(self.scope)
                return version
        raise AssertionError("the last attempt returns or raises")

    async def _list_once(self, limit: int) -> str:
        query = [*self.kind.query, *([("limit", str(limit))] if limit else [])]
        continuation = ""
        while True:
            more = [("continue", continuation)] if continuation else []
            page = _pages.decode(await self._server.read(self.kind.path(self.scope), [*query, *more]))
            for item in page.items or ():
                self._show(_objects.decode(item))
            continuation = page.metadata.continuation
            if not continuation:
                return page.metadata.resourceVersion

    async def _watch(self, version: str) -> None:
        """Watch from a version. Watches again if a watch ends. Raises if the objects have to be listed again."""
        while True:
            started = time.monotonic()
            try:
                async with aclosing(self._lines(version)) as lines:
                    async for line in lines:
                        version = self._take(_events.decode(line)) or version
            except ApiException as error:
                if _is_expired(error):
                    raise _ExpiredError from error
                if is_refusal(error):
                    raise
                await asyncio.sleep(self._fails(error))
            except API_ERRORS as error:
                await asyncio.sleep(self._fails(error))
            if time.monotonic() - started > _SHORT_SECONDS:
                self._pauses.reset()
            await asyncio.sleep(self._pauses.next())

    async def _lines(self, version: str) -> AsyncGenerator[bytes]:
        """Yield the lines of one watch, until it ends or is silent for too long."""
        query = [*self.kind.query, ("resourceVersion", version), ("allowWatchBookmarks", "true")]
        async with self._server.watch(self.kind.path(self.scope), query) as lines:
            self._works()
            try:
                while True:
                    async with asyncio.timeout(self._silence):
                        line = await anext(lines, None)
                    if line is None:
                        return
                    self._silence = SILENCE_SECONDS
                    yield line
            except TimeoutError:
                log.debug("the watch of %s is silent; watching again on a new connection", self.kind.plural)
                self._silence = min(_LAST_SILENCE_SECONDS, 2 * self._silence)

    def _take(self, event: _Event) -> str:
        """Process an event, and return the version from which to watch after it, or an empty string."""
        if event.type == "ERROR":
            status = _statuses.decode(event.object)
            raise ApiException(status=status.code, reason=status.reason, body=bytes(event.object).decode())
        body = _objects.decode(event.object)
        if event.type == "DELETED":
            self._store.gone(body)
        elif event.type != "BOOKMARK":
            self._show(body)
        return str(body["metadata"]["resourceVersion"])

    def _show(self, body: Manifest) -> None:
        try:
            self._store.show(body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # An object that cannot be read must not hide the others.
            log.warning("cannot read a %s: %r", self.kind.name, error)

    def _works(self) -> None:
        self._failing.reset()
        self.trouble = ""
        self.is_refused = self.is_absent = False

    def _fails(self, error: Exception) -> float:
        """Record an error, and return the number of seconds until the next attempt."""
        self.trouble = describe(error)
        self.is_refused = is_refusal(error)
        self.is_absent = isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND
        return self._refused.next() if self.is_refused else self._failing.next()


def _is_expired(error: ApiException) -> bool:
    """Return whether an error means that the version from which to watch is not available.

    An API server whose etcd was restored does not know newer versions yet, and answers that the version is too large.
    """
    return error.status == HTTPStatus.GONE or "Too large resource version" in str(error.body)
