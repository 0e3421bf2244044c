"""HTTP server (aiohttp) for `/metrics` and other pages of a process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

#: Last line of an OpenMetrics page.
_EOF = b"# EOF\n"


class Rendered(Protocol):
    """A function that returns metric families as text."""

    def __call__(self, *, openmetrics: bool) -> Iterable[bytes]:
        """Return the families of one scrape, in the Prometheus text format or as OpenMetrics."""


def no_families(*, openmetrics: bool) -> Iterable[bytes]:
    """Return no families."""
    return ()


async def no_refresh() -> None:
    """Do nothing before a scrape."""


def every_host(_: str) -> bool:
    """Serve every host."""
    return True


class PageServer:
    """Serves a registry at `/metrics`, in the Prometheus text format or as OpenMetrics, and other routes.

    `rendered` returns families in addition to the registry's. `refresh` is awaited before each scrape. Requests whose
    Host is not `is_served` get 403.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        routes: Iterable[web.RouteDef],
        rendered: Rendered = no_families,
        refresh: Callable[[], Awaitable[None]] = no_refresh,
        is_served: Callable[[str], bool] = every_host,
    ) -> None:
        self._registry = registry
        self._refresh = refresh
        self._rendered = rendered
        self._is_served = is_served
        app = web.Application(middlewares=[self._check_host])
        app.add_routes([web.get("/metrics", self._metrics), *routes])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on sockets that already listen."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    @web.middleware
    async def _check_host(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._is_served(request.headers.get("Host", "")):
            return await handler(request)
        return web.Response(status=403, text="this host name is not allowed; use localhost\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        parts = []
        for family in self._registry.collect():
            parts.append(encode(_Family(family)).removesuffix(_EOF))
            # A large scrape takes tens of milliseconds: yield after each family, so that no stream is delayed.
            await asyncio.sleep(0)
        openmetrics = "openmetrics" in content_type
        for text in self._rendered(openmetrics=openmetrics):
            parts.append(text)
            await asyncio.sleep(0)
        if openmetrics:
            parts.append(_EOF)
        return web.Response(body=b"".join(parts), headers={"Content-Type": content_type})


class _Family(CollectorRegistry):
    """A registry with one family, because the encoders of prometheus_client accept only registries."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


async def alive(_: web.Request) -> web.Response:
    """Answer `/livez`. The response shows that the event loop runs."""
    return web.Response(text="ok\n")
