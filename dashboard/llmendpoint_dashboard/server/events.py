"""The state as server-sent events, and as one document for browsers that poll."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from http import HTTPStatus

from aiohttp import web

from llmendpoint_dashboard.server.answers import problem
from llmendpoint_dashboard.state import GZIP_HEAD, Frame, Hub

log = logging.getLogger(__name__)

#: A comment keeps proxies from closing a silent connection, and shows a browser that it is alive.
HEARTBEAT_SECONDS = 10.0
_HEARTBEAT = Frame(b": heartbeat\n\n")
#: Time after which a browser reconnects.
_RETRY = Frame(b"retry: 1000\n\n")
MAX_READERS = 100
#: Time after which a stream ends, and the browser reconnects: then it is checked again whether the user is known.
STREAM_SECONDS = 900.0
#: Time in which a browser must take what is sent. One that takes longer is gone, or its machine sleeps.
WRITE_SECONDS = 60.0


class Events:
    """Answers `/api/v1/events` and `/api/v1/state`."""

    def __init__(self, hub: Hub, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._hub = hub
        self._heartbeat = heartbeat

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/api/v1/events", self._events, allow_head=False), web.get("/api/v1/state", self._state)]

    async def _state(self, request: web.Request) -> web.StreamResponse:
        state = self._hub.encoded()
        tag = f'"{state.tag}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        response = web.Response(body=state.body, headers=headers, content_type="application/json")
        response.enable_compression()
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._hub.reader_count >= MAX_READERS:
            sentence = f"{MAX_READERS} browsers are connected already. Poll /api/v1/state, or try again later."
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, sentence, headers={"Retry-After": "30"})
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                # nginx would collect the events.
                "X-Accel-Buffering": "no",
                "Vary": "Accept-Encoding",
                **({"Content-Encoding": "gzip"} if packed else {}),
            }
        )
        transport = request.transport

        def drop() -> None:
            log.info("a browser reads too slowly; its connection is closed, and it may reconnect")
            if transport is not None:
                transport.abort()

        reader = self._hub.join(request.headers.get("Last-Event-ID", ""), drop, packed=packed)
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await _write(response, (GZIP_HEAD if packed else b"") + _bytes(_RETRY, packed=packed))
                end = time.monotonic() + STREAM_SECONDS
                while not reader.is_dropped and time.monotonic() < end:
                    data = await reader.take(self._heartbeat)
                    if not reader.is_dropped:
                        await _write(response, data or _bytes(_HEARTBEAT, packed=packed))
        except TimeoutError:
            drop()
        finally:
            self._hub.leave(reader)
        return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Send data. Raises TimeoutError if the browser does not take them."""
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)


def _bytes(frame: Frame, *, packed: bool) -> bytes:
    return frame.packed if packed else frame.plain
