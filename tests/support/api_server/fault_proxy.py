"""An HTTPS proxy in front of an API server, which injects faults into the requests that a test names.

It runs in a thread of its own. Without faults, it passes requests and responses on, watches included.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from support.api_server.api_proxy import ApiProxy
from support.waiting import eventually


@dataclass(frozen=True)
class Seen:
    """A request. `resource` is the plural of its kind."""

    method: str
    path: str
    query: dict[str, str]

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and not self.is_watch

    @property
    def resource(self) -> str:
        parts = self.path.split("/")[3 if self.path.startswith("/api/") else 4 :]
        return parts[2] if len(parts) > 2 and parts[0] == "namespaces" else "".join(parts[:1])


Match = Callable[[Seen], bool]


@dataclass(frozen=True)
class Fault:
    """What the proxy does with a request that matches, instead of passing it on."""

    match: Match
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict, hash=False)
    #: The request is passed on when this is set.
    held_until: threading.Event | None = None
    #: The response is a watch whose only event is an error with this code.
    watch_error: int = 0
    #: The response never comes; a watch is open and delivers nothing.
    silent: bool = False
    times: int = 1_000_000


class FaultProxy(ApiProxy):
    """Passes requests on, or injects faults into them."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._faults: dict[Fault, int] = {}
        self._streams: dict[asyncio.Transport, tuple[Seen, dict[str, bool]]] = {}
        #: The requests that were received, by method or WATCH, and by resource.
        self.requests: Counter[tuple[str, str]] = Counter()
        super().__init__(kubeconfig, folder)

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Inject a fault until the block ends."""
        self._call(lambda: self._faults.__setitem__(fault, fault.times))
        try:
            yield
        finally:
            self._call(lambda: self._faults.pop(fault, None))

    def is_used_up(self, fault: Fault) -> bool:
        return self._faults.get(fault) == 0

    def drop(self, match: Match) -> None:
        """Abort the connections of the open watches that match."""

        def drop() -> None:
            for transport, (seen, _) in list(self._streams.items()):
                if match(seen):
                    transport.abort()

        self._call(drop)

    def silence(self, match: Match) -> None:
        """Let the open watches that match deliver nothing more. Their connections stay open."""

        def silence() -> None:
            for seen, state in self._streams.values():
                if match(seen):
                    state["silent"] = True

        self._call(silence)

    def _call(self, action: Callable[[], Any]) -> None:
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10)

    def _stopping(self) -> None:
        for stream in list(self._streams):
            stream.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path, dict(request.query))
        self.requests["WATCH" if seen.is_watch else request.method, seen.resource] += 1
        for fault, left in self._faults.items():
            if left and fault.match(seen):
                self._faults[fault] = left - 1
                answer = await self._inject(fault, request)
                if answer is not None:
                    return answer
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        state = {"silent": False}
        transport: Any = request.transport
        if seen.is_watch:
            # From here on, not from the response on: a watch that is being opened is silenced and dropped too.
            self._streams[transport] = (seen, state)
        try:
            async with self._session.request(
                request.method,
                self._target + request.raw_path,
                headers=headers,
                data=await request.read() or None,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                return await self._pass_on(request, response, state)
        except (aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        finally:
            self._streams.pop(transport, None)

    async def _pass_on(
        self, request: web.Request, response: aiohttp.ClientResponse, state: dict[str, bool]
    ) -> web.StreamResponse:
        skipped = ("transfer-encoding", "connection", "content-length")
        headers = {name: value for name, value in response.headers.items() if name.lower() not in skipped}
        answer = web.StreamResponse(status=response.status, headers=headers)
        await answer.prepare(request)
        async for piece in response.content.iter_any():
            if not state["silent"]:
                await answer.write(piece)
        if state["silent"]:
            await self._stopped.wait()
        await answer.write_eof()
        return answer

    async def _inject(self, fault: Fault, request: web.Request) -> web.StreamResponse | None:
        if (held_until := fault.held_until) is not None:
            await eventually(lambda: held_until.is_set() or self._stopped.is_set())
            return None
        if fault.silent:
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            await answer.prepare(request)
            await self._stopped.wait()
            return answer
        code = fault.watch_error or fault.status
        status = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code,
                  "message": f"injected {code}", "reason": "Expired" if code == 410 else ""}  # fmt: skip
        if fault.watch_error:
            return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")
        return web.json_response(status, status=fault.status, headers=fault.headers)


def watches(*resources: str) -> Match:
    """Return a match for the watches of these resources, or of all if there are none."""
    return lambda seen: seen.is_watch and (not resources or seen.resource in resources)


def lists(*resources: str) -> Match:
    """Return a match for the listings of these resources, or of all if there are none."""
    return lambda seen: seen.is_list and (not resources or seen.resource in resources)
