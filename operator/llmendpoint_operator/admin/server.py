"""The operator's HTTP server: `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from llmendpoint_common.process.exposition import PageServer, Rendered
from llmendpoint_operator.admin.probes import Health, notes, why_not_alive, why_not_ready


def admin_server(metrics: Collector, resources: Rendered, health: Callable[[], Health]) -> PageServer:
    """Return the server. The probes answer 200 or 503, with the reasons as text."""

    async def live(_: web.Request) -> web.Response:
        return _answer("alive", why_not_alive(health()), ())

    async def ready(_: web.Request) -> web.Response:
        state = health()
        return _answer("ready", why_not_ready(state), notes(state))

    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    return PageServer(registry, [web.get("/livez", live), web.get("/readyz", ready)], resources)


def _answer(word: str, reasons: Sequence[str], remarks: Sequence[str]) -> web.Response:
    if reasons:
        return web.Response(status=503, text="\n".join((f"not {word}:", *reasons)) + "\n")
    return web.Response(text="\n".join(("ok", *remarks)) + "\n")
