"""Pages of the admin port: `/metrics`, `/status`, `/status/requests/ID`, `/livez` and `/readyz`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarStatus, Stall
from llmendpoint_common.process.exposition import PageServer
from llmendpoint_sidecar.meter.metrics import Metrics

#: Returns the records of a request ID, at most one for each tenant. The second argument restricts them to one tenant.
Find: TypeAlias = Callable[[str, str | None], Awaitable[list[RequestRecord]]]


@dataclass
class Health:
    """State of the processes that carry requests, and of Ollama, for the probes. Their owner sets it."""

    #: The process is about to stop.
    draining: bool = False
    #: At least one process answers.
    serving: bool = True
    #: False if no process could be made to answer for so long that only a restart of everything can help.
    alive: bool = True
    #: Not None while Ollama is hung.
    stalled: Stall | None = None
    #: The last time that Ollama was hung, also if it is over.
    last_stall: Stall | None = None


def admin_server(
    metrics: Metrics,
    status: Callable[[], SidecarStatus],
    find: Find,
    refresh: Callable[[], Awaitable[None]],
    health: Health,
    is_served: Callable[[str], bool],
) -> PageServer:
    """Return the server of the admin port. `refresh` is awaited before `/metrics` and `/status` are answered.

    `is_served` decides by the Host of a request whether it is answered.
    """

    async def show(_: web.Request) -> web.Response:
        await refresh()
        return web.Response(body=msgspec.json.encode(status()), content_type="application/json")

    async def show_request(request: web.Request) -> web.Response:
        records = await find(request.match_info["id"], request.query.get("tenant"))
        if not records:
            sentence = "no request with this ID has ended within the last two minutes"
            return web.json_response({"error": sentence}, status=404)
        if len(records) > 1:
            sentence = "requests of several tenants have this ID; choose one with the query parameter ?tenant=NAME"
            return web.json_response({"error": sentence}, status=409)
        return web.Response(body=msgspec.json.encode(records[0]), content_type="application/json")

    async def ready(_: web.Request) -> web.Response:
        now = status()
        if now.ready:
            return web.Response(text="ok\n")
        reason = _why_not(now) if health.serving else "no worker process answers"
        return web.Response(status=503, text=f"not ready: {reason}\n")

    async def live(_: web.Request) -> web.Response:
        if health.alive:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="no worker process answers\n")

    routes = [
        web.get("/status", show),
        web.get("/status/requests/{id}", show_request),
        web.get("/livez", live),
        web.get("/readyz", ready),
    ]
    return PageServer(metrics.registry, routes, metrics.histograms, refresh, is_served)


def _why_not(status: SidecarStatus) -> str:
    if status.draining:
        return "draining"
    if not status.upstream_up:
        return "Ollama does not answer"
    if status.stalled is not None:
        return status.stalled.message
    waiting = [f"{m.name} is {m.phase.value}" for m in status.models if m.phase != "Ready"]
    return "; ".join(waiting) or "starting"
