"""Timeouts of a load generator that stood still: a response that had arrived in time is not a timeout."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llmendpoint_common.contracts.loadrun import ErrorClass
from support.load.load_clients import Clients, ask
from support.wire.fault_server import ANSWER, answering, fault_server

_TIMEOUT = 0.3


class Freezing(asyncio.Protocol):
    """A server that answers a request immediately, and then blocks the event loop, in which the client runs too."""

    answer = ANSWER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        # The transport would write after this call.
        os.write(self._descriptor, self.answer)
        time.sleep(2 * _TIMEOUT)


class Silent(Freezing):
    """Stops the event loop, and answers nothing."""

    answer = b""


@asynccontextmanager
async def serving(protocol: type[Freezing]) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("protocol", "error"), [(Freezing, None), (Silent, ErrorClass.TIMEOUT)])
async def test_a_response_that_arrived_while_the_load_generator_stood_still_is_read(
    client_of: Clients, protocol: type[Freezing], error: ErrorClass | None
) -> None:
    async with serving(protocol) as url:
        client = client_of(url, timeout_seconds=_TIMEOUT)
        sample = await ask(client)
        client.close()
    assert sample.error is error
    assert sample.request_latency >= 2 * _TIMEOUT


async def test_a_connection_that_was_opened_while_the_load_generator_stood_still_is_used(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url, timeout_seconds=_TIMEOUT)
        request = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        assert client.in_flight
        time.sleep(2 * _TIMEOUT)
        sample = await request
    assert sample.error is None
    assert sample.connect is not None
    assert sample.connect >= 2 * _TIMEOUT
