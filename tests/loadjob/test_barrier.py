"""The start barrier of a load pod, over real connections: it starts at the ordered time, and not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web

from llmendpoint_common.contracts.loadrun import START_PATH, StartOrder, StartState
from llmendpoint_loadjob.barrier import Barrier

pytestmark = pytest.mark.alone

POD = "ns/smoke-result-0"
#: A pod may start this much later than the others.
TOLERANCE = 0.05


class Served:
    """A barrier behind its route."""

    def __init__(self, barrier: Barrier, url: str, session: aiohttp.ClientSession) -> None:
        self.barrier = barrier
        self._url = url
        self._session = session

    async def order(self, seconds: float, pod: str = POD) -> int:
        return await self.post(msgspec.json.encode(StartOrder(pod, seconds)))

    async def post(self, body: bytes) -> int:
        async with self._session.post(self._url, data=body) as response:
            return response.status

    async def waiting(self) -> asyncio.Task[None]:
        """Let the pod wait at the barrier."""
        task = asyncio.create_task(self.barrier.wait())
        await asyncio.sleep(0)
        return task

    @property
    def state(self) -> StartState:
        return self.barrier.state


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    barrier = Barrier(POD)
    application = web.Application()
    application.add_routes([barrier.route()])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    async with aiohttp.ClientSession() as session:
        yield Served(barrier, f"http://127.0.0.1:{address[1]}{START_PATH}", session)
    await runner.cleanup()


async def test_the_load_starts_at_the_ordered_time(served: Served) -> None:
    waiting = await served.waiting()
    before = time.monotonic()
    states = [served.state]
    assert await served.order(0.2) == 204
    states.append(served.state)
    await waiting
    states.append(served.state)
    assert states == [StartState.READY, StartState.ORDERED, StartState.STARTED]
    assert 0.19 <= time.monotonic() - before <= 0.2 + TOLERANCE


async def test_a_later_order_replaces_an_earlier_one(served: Served) -> None:
    waiting = await served.waiting()
    before = time.monotonic()
    assert await served.order(30) == 204
    assert await served.order(0.1) == 204
    await waiting
    assert time.monotonic() - before < 0.1 + TOLERANCE + 0.05


async def test_an_order_before_the_pod_is_ready_is_refused(served: Served) -> None:
    assert await served.order(0) == 409
    waiting = await served.waiting()
    assert served.state is StartState.READY
    assert await served.order(0) == 204
    await waiting


async def test_an_order_for_another_pod_is_refused(served: Served) -> None:
    waiting = await served.waiting()
    assert await served.order(0, "ns/smoke-result-1") == 409
    assert served.state is StartState.READY
    waiting.cancel()


async def test_orders_after_the_start_have_no_effect(served: Served) -> None:
    waiting = await served.waiting()
    await served.order(0)
    await waiting
    assert await served.order(30) == 204
    assert served.state is StartState.STARTED


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"pod":"p","inSeconds":-1}', b'{"pod":"p","inSeconds":61}', b"\xff", b"[" * 4096]
)
async def test_what_is_no_order_is_refused(served: Served, body: bytes) -> None:
    assert await served.post(body) == 400


async def test_a_pod_that_is_stopped_while_it_waits_ends(served: Served) -> None:
    waiting = await served.waiting()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
