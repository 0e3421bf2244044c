"""Keeps the objects of one kind in one scope up to date in the inventory: lists them, then watches them.

A reflector never ends by itself, whatever the API server answers, and none waits for another:

the API server                              the reflector
ends a watch                                watches again from the version that it saw last
answers 410 (Gone), or that the version     lists again; what the listing does not show no longer exists
is too large, to a watch
answers 410 to the next page of a listing   lists again from the start (listing.py)
answers 429, 5xx, or nothing                tries again after a delay, or after the Retry-After of the response
refuses (403), or lacks the kind (404)      tries again after a longer delay; the kind counts as lost (access.py)
is silent for `SILENCE_SECONDS`             watches again on a new connection

The API server sends a bookmark about once per minute if nothing happens, so silence means that the connection is dead.

Children and pods are watched by reflectors, and not by kopf, because kopf ends all watches if one of them is refused,
and because its work per object costs more than the operator itself (docs/decisions/0021-watches.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.process.backoff import Backoff
from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.watching.access import KindAccess, is_refusal
from llmendpoint_operator.watching.feed import Feed
from llmendpoint_operator.watching.listing import decode_object, list_objects

log = logging.getLogger(__name__)

#: The API server sends a bookmark about every 60 s. After this silence, a connection is taken for dead. The API server
#: may send no bookmarks of a kind of which it has not seen an event since its start, so the time doubles each time.
SILENCE_SECONDS = 75.0
_LAST_SILENCE_SECONDS = 600.0
# A watch that ends sooner than this does not count as a success.
_SHORT_SECONDS = 5.0


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _ExpiredError(Exception):
    """The version from which to watch is not available. The objects have to be listed again."""


_events = msgspec.json.Decoder(_Event)
_statuses = msgspec.json.Decoder(_Status)


class Reflector:
    """Lists and watches one kind in one scope."""

    def __init__(self, server: ApiServer, access: KindAccess, feed: Feed) -> None:
        self._server = server
        self._access = access
        self._kind = access.kind
        self._feed = feed
        self._pauses = Backoff(0.1, 10.0)
        self._silence = SILENCE_SECONDS
        self._task: asyncio.Task[None] | None = None
        self._again = False

    async def run(self) -> None:
        """List and watch until the task is cancelled."""
        while True:
            self._again = False
            self._task = asyncio.ensure_future(self._follow())
            try:
                await self._task
            except asyncio.CancelledError:
                self._task.cancel()
                if not self._again:
                    raise

    def list_again(self) -> None:
        """List now: a permission or a kind may have come or gone."""
        self._access.reset()
        if self._task is not None and not self._task.done():
            self._again = True
            self._task.cancel()

    async def _follow(self) -> None:
        """List and watch, until an error or the end of the version requires a new listing."""
        while True:
            try:
                version = await list_objects(self._server, self._kind, self._feed.scope, self._begin, self._show)
                self._access.works()
                await self._watch(version)
            except _ExpiredError:
                await asyncio.sleep(self._pauses.next())
            except Exception as error:
                # Whatever a response contains, it must not end the watches of other kinds.
                if not isinstance(error, API_ERRORS):
                    log.warning("the watch of %s failed: %r", self._kind.plural, error)
                await asyncio.sleep(self._access.fails(error))

    async def _watch(self, version: str) -> None:
        """Watch from a version. Watches again if a watch ends. Raises if the objects have to be listed again."""
        while True:
            started = time.monotonic()
            try:
                async for line in self._lines(version):
                    version = self._take(_events.decode(line)) or version
            except ApiException as error:
                if _is_expired(error):
                    raise _ExpiredError from error
                if is_refusal(error):
                    raise
                await asyncio.sleep(self._access.fails(error))
            except API_ERRORS as error:
                await asyncio.sleep(self._access.fails(error))
            if time.monotonic() - started > _SHORT_SECONDS:
                self._pauses.reset()
            await asyncio.sleep(self._pauses.next())

    async def _lines(self, version: str) -> AsyncIterator[bytes]:
        """Yield the lines of one watch, until it ends or is silent for too long."""
        query = [*self._kind.selectors, ("resourceVersion", version), ("allowWatchBookmarks", "true")]
        async with self._server.watch(self._kind.path(self._feed.scope), query) as lines:
            self._access.answers()
            try:
                while True:
                    async with asyncio.timeout(self._silence):
                        line = await anext(lines, None)
                    if line is None:
                        return
                    self._silence = SILENCE_SECONDS
                    yield line
            except TimeoutError:
                log.debug("the watch of %s is silent; watching again on a new connection", self._kind.plural)
                self._silence = min(_LAST_SILENCE_SECONDS, 2 * self._silence)

    def _take(self, event: _Event) -> str:
        """Process an event, and return the version from which to watch after it, or an empty string."""
        if event.type == "ERROR":
            status = _statuses.decode(event.object)
            raise ApiException(status=status.code, reason=status.reason, body=bytes(event.object).decode())
        body = decode_object(self._kind, event.object)
        if event.type == "DELETED":
            self._feed.gone(self._kind, body)
        elif event.type != "BOOKMARK":
            self._feed.show(self._kind, body)
        return str(body["metadata"]["resourceVersion"])

    def _begin(self) -> None:
        self._feed.begin(self._kind)

    def _show(self, body: dict[str, object]) -> None:
        self._feed.show(self._kind, body)


def _is_expired(error: ApiException) -> bool:
    """Return whether an error means that the version from which to watch is not available.

    An API server whose etcd was restored does not know newer versions yet, and answers that the version is too large.
    """
    return error.status == HTTPStatus.GONE or "Too large resource version" in str(error.body)
