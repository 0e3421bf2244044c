"""A proxy between the operator and an API server, which kills the operator at a request that a test names.

The operator is killed either before the API server gets the request, or after it has carried it out and before the
operator gets the response: the two ways in which a process can lose what it was doing.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from support.api_server.api_proxy import ApiProxy

_NOT_PASSED_ON = ("host", "connection", "transfer-encoding", "content-length")


@dataclass(frozen=True)
class Point:
    """A request at which the operator is killed: the first one that matches. `text` is a part of its body."""

    method: str
    path: str
    text: str = ""
    after: bool = False

    def matches(self, method: str, path: str, body: bytes) -> bool:
        return method == self.method and path.endswith(self.path) and self.text.encode() in body.replace(b'": ', b'":')

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.method} {self.path} {self.text}".rstrip()


class KillingProxy(ApiProxy):
    """Passes requests on, watches included. `arm` says which process to kill, when."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._armed: tuple[Point, int] | None = None
        super().__init__(kubeconfig, folder)

    def arm(self, point: Point, pid: int) -> None:
        """Kill the process at the point, once."""
        self._armed = (point, pid)

    @property
    def has_fired(self) -> bool:
        return self._armed is None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kill = self._fired(request, body)
        if kill is not None and not kill[0].after:
            return self._kill(kill[1], request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        url, timeout = self._target + request.raw_path, aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, timeout=timeout
        ) as response:
            if kill is not None:
                await response.read()
                return self._kill(kill[1], request)
            return await _pass_on(request, response)

    def _fired(self, request: web.Request, body: bytes) -> tuple[Point, int] | None:
        armed = self._armed
        if armed is None or not armed[0].matches(request.method, request.path, body):
            return None
        self._armed = None
        return armed

    def _kill(self, pid: int, request: web.Request) -> web.Response:
        os.kill(pid, signal.SIGKILL)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


async def _pass_on(request: web.Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in response.headers.items() if name.lower() not in _NOT_PASSED_ON}
    answer = web.StreamResponse(status=response.status, headers=headers)
    await answer.prepare(request)
    async for piece in response.content.iter_any():
        await answer.write(piece)
    await answer.write_eof()
    return answer
