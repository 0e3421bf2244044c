"""Pages of the admin port: `/metrics`, `/status`, `/status/requests[/ID]`, `/livez` and `/readyz`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.sidecar import (
    MAX_LISTED_REQUESTS,
    RequestList,
    RequestRecord,
    SidecarStatus,
    Stall,
)
from llmendpoint_common.process.exposition import PageServer
from llmendpoint_sidecar.meter.metrics import Metrics

#: Returns the records of a request ID, at most one for each tenant. The second argument restricts them to one tenant.
Find: TypeAlias = Callable[[str, str | None], Awaitable[list[RequestRecord]]]
#: Returns the last records of requests that ended after a Unix time, in order of their ends. The second argument is
#: their maximum number.
Last: TypeAlias = Callable[[float, int], Awaitable[list[RequestRecord]]]


class Records(NamedTuple):
    """Ways to read the records of ended requests, of this process or of all workers."""

    find: Find
    last: Last


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
    records: Records,
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

    async def list_requests(request: web.Request) -> web.Response:
        try:
            after, limit = _range(request)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        listed = RequestList(tuple(await records.last(after, limit)))
        return web.Response(body=msgspec.json.encode(listed), content_type="application/json")

    async def show_request(request: web.Request) -> web.Response:
        found = await records.find(request.match_info["id"], request.query.get("tenant"))
        if not found:
            sentence = "no request with this ID has ended within the last two minutes"
            return web.json_response({"error": sentence}, status=404)
        if len(found) > 1:
            sentence = "requests of several tenants have this ID; choose one with the query parameter ?tenant=NAME"
            return web.json_response({"error": sentence}, status=409)
        return web.Response(body=msgspec.json.encode(found[0]), content_type="application/json")

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
        web.get("/status/requests", list_requests),
        web.get("/status/requests/{id}", show_request),
        web.get("/livez", live),
        web.get("/readyz", ready),
    ]
    return PageServer(metrics.registry, routes, metrics.histograms, refresh, is_served)


def _range(request: web.Request) -> tuple[float, int]:
    """Return the parameters `after` and `limit` of a request for the last records. Raises ValueError."""
    after, limit = request.query.get("after", "0"), request.query.get("limit", str(MAX_LISTED_REQUESTS))
    try:
        time = float(after)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise ValueError("after is not a Unix time in seconds")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:9]) <= MAX_LISTED_REQUESTS:
        raise ValueError(f"limit is not a number from 1 to {MAX_LISTED_REQUESTS}")
    return time, int(limit)


def _why_not(status: SidecarStatus) -> str:
    if status.draining:
        return "draining"
    if not status.upstream_up:
        return status.upstream_problem or "Ollama does not answer"
    if status.stalled is not None:
        return status.stalled.message
    waiting = [f"{m.name} is {m.phase.value}" for m in status.models if m.phase != "Ready"]
    return "; ".join(waiting) or "starting"
