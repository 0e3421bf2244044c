"""One small aiohttp server for `/metrics` and a process's own pages beside it."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


class PageServer:
    """Serves a registry at `/metrics`, in Prometheus' text or as OpenMetrics, and more routes; `stop` closes it."""

    def __init__(self, registry: CollectorRegistry, routes: Iterable[web.RouteDef]) -> None:
        self._registry = registry
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics), *routes])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


async def alive(_: web.Request) -> web.Response:
    """Answer `/livez`: the event loop turns."""
    return web.Response(text="ok\n")
