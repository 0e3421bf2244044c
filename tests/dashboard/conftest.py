"""Dashboards on free ports in the test process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.settings import Settings, SidecarAddress
from llmendpoint_sidecar.main import Sidecar
from support.dashboard.dashboards import StartDashboard, Watch, Watched
from support.servers import StartSidecar, StartSimulator

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
def start_dashboard(stack: AsyncExitStack) -> StartDashboard:
    """Return a function that starts a dashboard of the given sidecars, with fields of its settings."""

    async def start(*sidecars: Sidecar, **settings: object) -> Dashboard:
        addresses = tuple(
            SidecarAddress(f"ollama-{number}" if number else "ollama", f"http://127.0.0.1:{sidecar.admin_port}")
            for number, sidecar in enumerate(sidecars)
        )
        chosen = replace(Settings(LOOPBACK, addresses), **settings)  # type: ignore[arg-type]
        dashboard = Dashboard(chosen)
        stack.push_async_callback(dashboard.stop)
        await dashboard.start()
        return dashboard

    return start


@pytest.fixture
async def browser(stack: AsyncExitStack) -> aiohttp.ClientSession:
    """A client with cookies, that decodes bodies, as a browser does."""
    jar = aiohttp.CookieJar(unsafe=True)
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), cookie_jar=jar)
    return await stack.enter_async_context(session)


@pytest.fixture
def watch(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> Watch:
    """Return a function that starts a simulator, sidecars in front of it, and a dashboard that reads them.

    Its options are the behaviour of the simulator, the options of the sidecars, and the settings of the dashboard.
    """

    async def start(
        sidecars: int = 1, *, of_sidecar: dict[str, Any] | None = None, of_dashboard: dict[str, Any] | None = None,
        **behaviour: Any,
    ) -> Watched:  # fmt: skip
        simulator = await start_simulator(**behaviour)
        started = [await start_sidecar(simulator.port, **(of_sidecar or {})) for _ in range(sidecars)]
        return Watched(simulator, started, await start_dashboard(*started, **(of_dashboard or {})), browser)

    return start
