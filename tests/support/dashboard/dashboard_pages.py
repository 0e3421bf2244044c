"""The dashboard's server with a state that a test writes, instead of sources. It runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import parse_address
from llmendpoint_dashboard import contract as c
from llmendpoint_dashboard.loadtests.documents import presets
from llmendpoint_dashboard.server.answers import answer
from llmendpoint_dashboard.server.app import Server
from llmendpoint_dashboard.server.assets import Assets
from llmendpoint_dashboard.server.auth import Everyone
from llmendpoint_dashboard.server.events import Events
from llmendpoint_dashboard.settings import LoadLimits
from llmendpoint_dashboard.state import Hub
from support.dashboard.dashboard_states import history
from support.load.reports import summary

_RANGES = {"15m": (900, 5), "1h": (3600, 15), "6h": (21600, 60), "24h": (86400, 300), "7d": (604800, 1800)}


class Pages:
    """A running server. Its history is a wave if `has_history`, of the last `known_seconds` if they are set.

    Nothing is known of the last `silent_seconds`. Errors of one outcome have about the rate `errors_per_second`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hub: Hub, port: int, has_history: bool) -> None:
        self._loop = loop
        self._hub = hub
        self.url = f"http://127.0.0.1:{port}/"
        self.has_history = has_history
        self.known_seconds: float | None = None
        self.silent_seconds = 0.0
        self.errors_per_second = 0.05

    def write(self, change: Callable[[Hub], None]) -> None:
        """Write into the hub, in its thread, and return when it is written."""
        done = threading.Event()

        def call() -> None:
            change(self._hub)
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(10)


@contextmanager
def serving(fill: Callable[[Hub], None], *, has_history: bool = True) -> Iterator[Pages]:
    """Serve the pages with the state that `fill` writes."""
    loop = asyncio.new_event_loop()
    started: list[Pages] = []
    ready, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        hub = Hub()
        fill(hub)
        sockets = bind_sockets(parse_address("127.0.0.1:0"))
        started.append(Pages(loop, hub, port_of(sockets), has_history))
        routes = [*Events(hub).routes(), *Assets().routes(), *_api(hub, started[0])]
        server = Server(routes, None, Everyone(), lambda: True)
        await server.start(sockets)
        flushing = asyncio.create_task(hub.run())
        ready.set()
        await stopping.wait()
        hub.close()
        flushing.cancel()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def _api(hub: Hub, pages: Pages) -> list[web.RouteDef]:
    async def history_of(request: web.Request) -> web.StreamResponse:
        seconds, step = _RANGES[request.query["range"]]
        if not pages.has_history:
            return answer(history(0, 5))
        return answer(
            history(
                seconds,
                step,
                known=pages.known_seconds,
                silent=pages.silent_seconds,
                errors=pages.errors_per_second,
            )
        )

    async def detail(request: web.Request) -> web.StreamResponse:
        row = _row(hub, request.match_info["key"])
        ended = row.state is c.RunState.ENDED
        return answer(c.LoadTestDetail(row=row, summary=summary() if ended else None))

    async def compare(request: web.Request) -> web.StreamResponse:
        a, b = (_row(hub, request.query[name]) for name in "ab")
        return answer(c.Comparison(a=a, b=b, metrics=COMPARED, differences=["The durations are 60 s and 120 s."]))

    async def other(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("presets"):
            return answer(presets(LoadLimits()))
        if request.path.endswith("session"):
            return answer(c.Session(csrf="token"))
        return answer(c.Manifest(manifest="apiVersion: llmendpoint.dev/v1alpha1\nkind: LoadTest\n",
                                 command="kubectl create -f -", local="llmendpoint load --model tiny"))  # fmt: skip

    tests = "/api/v1/loadtests"
    return [
        web.get("/api/v1/history", history_of), web.get("/api/v1/presets", other), web.get("/api/v1/session", other),
        web.post("/api/v1/manifest", other), web.get(f"{tests}/compare", compare), web.get(f"{tests}/{{key}}", detail),
    ]  # fmt: skip


def _row(hub: Hub, key: str) -> c.LoadTestRow:
    row = hub.row("loadtests", key, c.LoadTestRow)
    assert row is not None, key
    return row


COMPARED: list[Any] = [
    c.ComparedMetric(name="TTFT p95", unit="s", a=0.412, b=2.9, change=6.04, better=c.Better.A),
    c.ComparedMetric(name="Requests per second", unit="/s", a=3.9, b=4.4, change=0.128, better=c.Better.B),
    c.ComparedMetric(name="Error rate", unit="share", a=0.0, b=0.006, better=c.Better.A),
    c.ComparedMetric(name="Requests", unit="", a=240, b=37, change=-0.846),
    c.ComparedMetric(name="TPOT p95", unit="s", a=0.02008, b=0.02014, change=0.00299, better=c.Better.A),
    c.ComparedMetric(name="server queue p95", unit="s", a=2.36, b=0.0033, change=-0.9986, better=c.Better.B),
]
