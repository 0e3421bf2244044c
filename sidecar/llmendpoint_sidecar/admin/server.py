"""`/metrics`, `/status`, `/livez` and `/readyz`."""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from llmendpoint_sidecar.contract import SidecarStatus


class AdminServer:
    """Serves what a registry and a status function hold; `stop` closes the sockets."""

    def __init__(self, registry: CollectorRegistry, status: Callable[[], SidecarStatus]) -> None:
        self._registry = registry
        self._status = status
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._show_status)
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
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

    async def _show_status(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._status()), content_type="application/json")

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        status = self._status()
        if status.ready:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"not ready: {_why_not(status)}\n")


def _why_not(status: SidecarStatus) -> str:
    if status.draining:
        return "draining"
    if not status.upstream_up:
        return "the upstream does not answer"
    waiting = [f"{m.name} is {m.phase.value}" for m in status.models if m.phase != "Ready"]
    return "; ".join(waiting) or "starting"
