"""HTTP client of the load generator.

It uses asyncio protocols directly, to keep the time between receiving bytes and reading the clock short.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.wire.http1.response_reader import ResponseReader
from llmendpoint_loadjob.client.answer import Answer
from llmendpoint_loadjob.client.requests import OPERATIONS, Target
from llmendpoint_loadjob.result.timings import ErrorClass, Sample


class Connection(asyncio.Protocol):
    """One keep-alive connection. It serves one request at a time."""

    def __init__(self, clock: Callable[[], float], api: Api) -> None:
        self._clock = clock
        self._operation = OPERATIONS[api]
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader(self.close)
        # The event loop calls the reader directly, because a method here would add a call for each piece.
        self.data_received = self._reader.feed  # type: ignore[method-assign]
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether the connection is open."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, sample: Sample, timeout: float) -> None:
        """Send a request and fill in its sample. Errors are stored in the sample and never raised."""
        self._done = asyncio.get_running_loop().create_future()
        answer = self._answer = Answer(self._clock, self._operation, sample, self._end)
        self._reader.expect(answer)
        # This is t0: the request is written to an open connection.
        sample.sent = self._clock()
        if self._transport is None:
            answer.fail(ErrorClass.RESET)
        else:
            self._transport.write(request)
        try:
            async with asyncio.timeout(timeout):
                await self._done
        except TimeoutError:
            answer.fail(ErrorClass.TIMEOUT)

    def close(self) -> None:
        """Close immediately."""
        if self._transport is not None:
            self._transport.abort()

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def eof_received(self) -> None:
        """Complete the response, or fail it if it is incomplete."""
        self._end_of_input(reset=False)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the response if it is incomplete."""
        self._transport = None
        self._end_of_input(reset=error is not None)

    # ---- inside

    def _end_of_input(self, *, reset: bool) -> None:
        if self._answer is not None:
            self._answer.was_reset = reset
        self._reader.eof(reset=reset)

    def _end(self, reusable: bool) -> None:
        self._answer = None
        if not reusable:
            self._reader.abandon()
            self.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Client:
    """Pool of keep-alive connections to one target. `timeout` applies to connecting, and again to each request."""

    def __init__(self, target: Target, api: Api, clock: Callable[[], float], timeout: float) -> None:
        self._target = target
        self._api = api
        self._clock = clock
        self._timeout = timeout
        self._idle: list[Connection] = []
        self.in_flight = 0

    async def send(self, request: bytes, sample: Sample) -> None:
        """Send one request on an idle connection or on a new one, and fill in its sample.

        If the task is cancelled, the connection is closed, which ends the request on the server too.
        """
        self.in_flight += 1
        try:
            connection = self._take()
            if connection is None:
                connection = await self._connect(sample)
            if connection is not None:
                await self._send_on(connection, request, sample)
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Close all idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _send_on(self, connection: Connection, request: bytes, sample: Sample) -> None:
        try:
            await connection.send(request, sample, self._timeout)
        except asyncio.CancelledError:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self, sample: Sample) -> Connection | None:
        """Return a new connection, or None if connecting failed; the error is then in the sample."""
        loop = asyncio.get_running_loop()
        # The start of connecting is kept as t0 only if connecting fails; otherwise `Connection.send` sets t0.
        sample.sent = self._clock()
        error = ErrorClass.REFUSED
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(self._timeout):
                    _, connection = await loop.create_connection(
                        lambda: Connection(self._clock, self._api), self._target.host, self._target.port,
                        ssl=self._target.tls,
                    )  # fmt: skip
                    return connection
            except TimeoutError:
                error = ErrorClass.TIMEOUT
        sample.error = error
        sample.ended = self._clock()
        sample.detail = f"cannot connect to {self._target.authority}"
        return None
