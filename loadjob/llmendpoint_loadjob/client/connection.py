"""The measuring client: a raw asyncio protocol, so that nothing lies between the bytes and the clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import httptools

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.wire.dialects.reading import Dialect
from llmendpoint_common.wire.routes import dialect_of
from llmendpoint_loadjob.client.requests import OPERATIONS, Target
from llmendpoint_loadjob.result.timings import ErrorClass, Sample, error_of_status

_MAX_DETAIL = 200


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self, clock: Callable[[], float], api: Api) -> None:
        self._clock = clock
        self._api = api
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sample: Sample | None = None
        self._done: asyncio.Future[None] | None = None
        self._dialect: Dialect | None = None
        self._content_type = b""
        self._detail = b""
        self._now = 0.0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, sample: Sample, timeout: float) -> None:
        """Send a request and fill in its sample; an error is a value of the sample, never raised."""
        self._sample = sample
        self._dialect = None
        self._content_type = self._detail = b""
        self._done = asyncio.get_running_loop().create_future()
        sample.sent = self._clock()
        if self._transport is None:
            self._end(ErrorClass.RESET)
        else:
            self._transport.write(request)
        try:
            async with asyncio.timeout(timeout):
                await self._done
        except TimeoutError:
            self._end(ErrorClass.TIMEOUT)
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the clock first, then the bytes."""
        self._now = self._clock()
        if self._sample is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(ErrorClass.INVALID_BODY)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """A response that was not whole is an error of its own class."""
        self._transport = None
        self._now = self._clock()
        if self._sample is not None:
            self._end(ErrorClass.TRUNCATED if self._sample.status and error is None else ErrorClass.RESET)

    # ---- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the content type matters."""
        if name.lower() == b"content-type":
            self._content_type = value

    def on_headers_complete(self) -> None:
        """Choose how to read the body."""
        if self._sample is None:
            return
        self._sample.status = self._parser.get_status_code()
        if self._sample.status == 200:
            self._dialect = dialect_of(OPERATIONS[self._api], self._content_type, self._on_content)

    def on_body(self, data: bytes) -> None:
        """Read content; of an error keep the beginning."""
        if self._dialect is not None:
            self._dialect.feed(data, self._now)
        elif len(self._detail) < _MAX_DETAIL:
            self._detail += data

    def on_message_complete(self) -> None:
        """The response is whole: was the answer?"""
        if self._sample is None:
            return
        keep_alive = self._parser.should_keep_alive()
        self._end(self._judge(self._sample))
        if not keep_alive:
            self.close()

    # ---- inside

    def _on_content(self, now: float) -> None:
        sample = self._sample
        if sample is not None:
            if sample.first is None:
                sample.first = now
            sample.last = now
            sample.chunks += 1

    def _judge(self, sample: Sample) -> ErrorClass | None:
        if self._dialect is None:
            return error_of_status(sample.status) or ErrorClass.INVALID_BODY
        self._dialect.close(self._now)
        reading = self._dialect.reading
        if reading.failed:
            return ErrorClass.STREAM_ERROR
        if reading.unreadable:
            return ErrorClass.INVALID_BODY
        return None if reading.finished else ErrorClass.TRUNCATED

    def _end(self, error: ErrorClass | None) -> None:
        sample, self._sample = self._sample, None
        if sample is None:
            return
        sample.ended = self._clock() if error is ErrorClass.TIMEOUT else max(self._now, sample.sent)
        sample.error = error
        sample.detail = self._detail[:_MAX_DETAIL].decode(errors="replace")
        usage = self._dialect.reading.usage if self._dialect is not None else None
        if usage is not None:
            sample.input_tokens = usage.prompt_tokens or 0
            sample.output_tokens = usage.generation_tokens or 0
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Client:
    """Connections to one target, used again as long as they are good."""

    def __init__(self, target: Target, api: Api, clock: Callable[[], float], timeout: float) -> None:
        self._target = target
        self._api = api
        self._clock = clock
        self._timeout = timeout
        self._idle: list[Connection] = []
        self.in_flight = 0

    async def send(self, request: bytes, sample: Sample) -> None:
        """Send one request on an idle connection or on a new one, and fill in its sample."""
        self.in_flight += 1
        try:
            connection = self._take()
            if connection is None:
                connection = await self._connect(sample)
            if connection is not None:
                await connection.send(request, sample, self._timeout)
                if connection.usable:
                    self._idle.append(connection)
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self, sample: Sample) -> Connection | None:
        loop = asyncio.get_running_loop()
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
