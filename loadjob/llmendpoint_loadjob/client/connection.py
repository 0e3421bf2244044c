"""One keep-alive connection.

It uses an asyncio protocol directly, to keep the time between receiving bytes and reading the clock short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_common.wire.http1.response_reader import ResponseReader
from llmendpoint_loadjob.client.answer import Answer
from llmendpoint_loadjob.client.deadline import Deadline

#: If an idle connection is closed while a request is on its way, the end arrives within a round trip. Later, it is the
#: server's answer to the request. Opening the connection took at least a round trip; twice that time is allowed, within
#: these bounds. The lower one is for delays of the event loop.
_MIN_IDLE_CLOSE_SECONDS = 0.25
_MAX_IDLE_CLOSE_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One keep-alive connection. It serves one request at a time. `on_lost` is called when it has ended."""

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader(self.close)
        self._answer: Answer | None = None
        self._done: asyncio.Future[bool] | None = None
        #: Seconds that opening the connection took.
        self.opened_in = 0.0
        #: Until when the end of the connection means that it was closed while idle, in the time of the event loop.
        self._idle_close_until = 0.0

    @property
    def usable(self) -> bool:
        """Whether the connection is open."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, answer: Answer, timeout: float, *, was_idle: bool) -> bool:
        """Send a request, and wait for the end of the answer. Errors are stored in its sample and never raised.

        Returns False if the server closed the connection while it was idle, so that the request has to be sent on
        another one. Then, nothing of a response has arrived, and the sample is not ended.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self._done = done
        self._answer = answer
        answer.on_end = self._end
        self._reader.expect(answer)
        now = loop.time()
        self._idle_close_until = now + self._idle_close_seconds() if was_idle else now
        words = f"no complete response within {timeout:g} s"
        deadline = Deadline(timeout, lambda: self.fail(ErrorClass.TIMEOUT, words))
        if self._transport is None:
            self._end_of_input(reset=False)
        else:
            self._transport.write(request)
        try:
            return await done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            deadline.cancel()

    def fail(self, error: ErrorClass, detail: str) -> None:
        """End the request with an error, and close the connection."""
        if self._answer is not None:
            self._answer.fail(error, detail)

    def close(self) -> None:
        """Close immediately."""
        if self._transport is not None:
            self._transport.abort()

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read a part of the response, or keep it for later."""
        answer = self._answer
        if answer is None or not answer.keep(data):
            self._reader.feed(data)

    def eof_received(self) -> None:
        """Complete the response, or fail it if it is incomplete."""
        self._end_of_input(reset=False)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the response if it is incomplete."""
        self._transport = None
        self._end_of_input(reset=error is not None)
        self._on_lost(self)

    # ---- inside

    def _idle_close_seconds(self) -> float:
        return min(_MAX_IDLE_CLOSE_SECONDS, max(_MIN_IDLE_CLOSE_SECONDS, 2 * self.opened_in))

    def _end_of_input(self, *, reset: bool) -> None:
        answer, reader = self._answer, self._reader
        if answer is None:
            reader.eof(reset=reset)
            return
        is_silent = reader.awaits_head and not reader.partial_head and not answer.had_interim
        if is_silent and asyncio.get_running_loop().time() < self._idle_close_until:
            self._finish(is_answered=False)
            return
        answer.was_reset = reset
        answer.partial = reader.partial_head
        reader.eof(reset=reset)

    def _end(self, reusable: bool) -> None:
        self._finish(is_answered=True, reusable=reusable)

    def _finish(self, *, is_answered: bool, reusable: bool = False) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.on_end = None
        if not reusable:
            self._reader.abandon()
            self.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(is_answered)
