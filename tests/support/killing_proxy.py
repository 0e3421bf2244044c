"""A proxy between the operator and an API server, which kills the operator at a request that a test names.

The operator is killed either before the API server gets the request, or after it has carried it out and before the
operator gets the response: the two ways in which a process can lose what it was doing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from support.tls import issue
from support.waiting import wait_until

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


class KillingProxy:
    """Passes requests on, watches included. `kubeconfig` is that of the proxy. `arm` says which process to kill, when."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._certificate, self._key = issue(folder, "localhost")
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self._target, self._authority = cluster["server"], cluster["certificate-authority"]
        self._armed: tuple[Point, int] | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        wait_until(lambda: self._port)
        cluster |= {"server": f"https://localhost:{self._port}", "certificate-authority": str(self._certificate)}
        self.kubeconfig = folder / "killing.kubeconfig"
        self.kubeconfig.write_text(json.dumps(document))

    def arm(self, point: Point, pid: int) -> None:
        """Kill the process at the point, once."""
        self._armed = (point, pid)

    @property
    def has_fired(self) -> bool:
        return self._armed is None

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        self._loop.close()

    async def _serve(self) -> None:
        trust = ssl.create_default_context(cafile=self._authority)
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificate, self._key)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self._port = runner.addresses[0][1]
            await self._stopped.wait()
            await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

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
