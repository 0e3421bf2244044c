"""`/metrics`, `/status`, `/livez` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from llmendpoint_process.exposition import PageServer, alive
from llmendpoint_sidecar.contract import SidecarStatus


def admin_server(registry: CollectorRegistry, status: Callable[[], SidecarStatus]) -> PageServer:
    """Return the server of the side door."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(status()), content_type="application/json")

    async def ready(_: web.Request) -> web.Response:
        now = status()
        if now.ready:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"not ready: {_why_not(now)}\n")

    return PageServer(registry, [web.get("/status", show), web.get("/livez", alive), web.get("/readyz", ready)])


def _why_not(status: SidecarStatus) -> str:
    if status.draining:
        return "draining"
    if not status.upstream_up:
        return "the upstream does not answer"
    waiting = [f"{m.name} is {m.phase.value}" for m in status.models if m.phase != "Ready"]
    return "; ".join(waiting) or "starting"
