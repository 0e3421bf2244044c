"""Shared fixtures: real servers on free loopback ports in the test process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import hypothesis
import msgspec
import pytest
import uvloop

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.hosts import ANY_HOST
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.settings import parse_settings
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.known.server import KnownLatencyServer
from llmendpoint_simulator.server import Simulator
from support.servers import RunningKnownLatency, RunningSimulator, StartKnownLatency, StartSidecar, StartSimulator

# A time limit for each example would make tests depend on how busy the machine is. Bounds of time have tests of their
# own.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")

LOOPBACK = Address("127.0.0.1", 0)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on uvloop, as the programs do."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Stack that stops the servers of a test, in reverse order."""
    async with AsyncExitStack() as exits:
        yield exits


@pytest.fixture
def start_simulator(stack: AsyncExitStack) -> StartSimulator:
    """Return a function that starts a simulator. By default it answers without delay, and on a free port."""

    async def start(port: int = 0, **behaviour: object) -> RunningSimulator:
        fast = {"ttft": 0.0, "inter_token": 0.0, "tokens": 5, **behaviour}
        simulator = Simulator(msgspec.convert(fast, Behaviour))
        sockets = bind_sockets(LOOPBACK._replace(port=port))
        await simulator.start(sockets)
        stack.push_async_callback(simulator.stop)
        return RunningSimulator(simulator, port_of(sockets))

    return start


@pytest.fixture
def start_known_latency(stack: AsyncExitStack) -> StartKnownLatency:
    """Return a function that starts a known-latency server on a free port. By default many requests run at once."""

    async def start(**behaviour: object) -> RunningKnownLatency:
        server = KnownLatencyServer(msgspec.convert({"parallel": 10_000, **behaviour}, Behaviour))
        sockets = bind_sockets(LOOPBACK)
        await server.start(sockets)
        stack.push_async_callback(server.stop)
        return RunningKnownLatency(server, port_of(sockets))

    return start


@pytest.fixture
def start_sidecar(stack: AsyncExitStack) -> StartSidecar:
    """Return a function that starts a sidecar in front of a port. Like one in a pod, it serves every host."""

    async def start(upstream_port: int, config: SidecarConfig | None = None, /, **settings: object) -> Sidecar:
        base = replace(
            parse_settings([]), listen=LOOPBACK, admin_listen=LOOPBACK, upstream=Address("127.0.0.1", upstream_port)
        )
        chosen = config or SidecarConfig()
        if "config" not in settings:
            chosen = msgspec.structs.replace(chosen, allowed_hosts=chosen.allowed_hosts or (ANY_HOST,))
        chosen_settings = {"drain_delay": 0.0, "drain_timeout": 5.0, **settings}
        sidecar = Sidecar(replace(base, **chosen_settings), chosen)  # type: ignore[arg-type]
        stack.push_async_callback(sidecar.stop)
        await sidecar.start()
        return sidecar

    return start


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    """Client that returns bodies as they were received."""
    session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60))
    return await stack.enter_async_context(session)


@pytest.fixture
def strict_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let contexts of TLS verify certificates as strictly by default as Python 3.13 does."""
    create = ssl.create_default_context

    def create_strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = create(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_strict)
