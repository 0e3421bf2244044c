"""The end of a run whose load generator stands still meanwhile: what has arrived is read before requests are cut off."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import Arrivals, ErrorClass, RunDocument, RunLoad, RunTarget
from support.load.load_runs import drive
from support.wire.fault_server import ANSWER

_LOAD, _DRAIN = 0.3, 0.6


class Freezing(asyncio.Protocol):
    """A server that answers each request in the drain, and then blocks the event loop until the drain is over.

    It does so while the event loop reads sockets. The loop then runs its timers before it reads the answer.
    """

    answer = ANSWER
    delay, seconds = _LOAD + _DRAIN / 2, 2 * _DRAIN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        readable, writable = os.pipe()
        loop.add_reader(readable, self._answer, readable, writable)
        loop.call_later(self.delay, os.write, writable, b"x")

    def _answer(self, *pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe[0])
        for descriptor in pipe:
            os.close(descriptor)
        # The transport would write after this call.
        os.write(self._descriptor, self.answer)
        time.sleep(self.seconds)


class ShortlyFreezing(Freezing):
    """A server that blocks the event loop for less than what counts as a stop, across the end of the drain."""

    delay, seconds = _LOAD + _DRAIN - 0.05, 0.09


class Silent(Freezing):
    """A server that blocks the event loop, and answers nothing."""

    answer = b""


@pytest.mark.parametrize(
    ("protocol", "error"), [(Freezing, None), (ShortlyFreezing, None), (Silent, ErrorClass.UNFINISHED)]
)
@pytest.mark.parametrize("load", [{"concurrency": 1}, {"rate": 1 / _LOAD, "arrivals": Arrivals.CONSTANT}])
async def test_a_response_that_arrived_in_the_drain_while_the_load_generator_stood_still_is_read(
    protocol: type[Freezing], load: dict[str, Any], error: ErrorClass | None
) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = RunLoad(**load, duration_seconds=_LOAD, drain_timeout_seconds=_DRAIN)
        driven = await drive(RunDocument(RunTarget(url), "m", settings))
    assert [sample.error for sample in driven.samples] == [error]
