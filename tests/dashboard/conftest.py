"""Dashboards on free ports in the test process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.settings import Settings, SidecarAddress
from llmendpoint_sidecar.main import Sidecar
from support.dashboards import StartDashboard

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
