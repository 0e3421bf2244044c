"""A connection to Ollama. A `ResponseReader` parses the responses and calls the exchange."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Protocol, cast

from llmendpoint_common.wire.http1.response_reader import ResponseHandler, ResponseReader

#: Maximum number of bytes that are read after the connection was lost. An early error response has a few hundred.
_MAX_REST_BYTES = 256 * 1024


def drop(data: bytes) -> None:
    """Discard bytes. It is `write` of a connection that is closed."""


class UpstreamUser(ResponseHandler, Protocol):
    """The exchange that uses a connection."""

    is_head_request: bool

    def upstream_writable(self, *, writable: bool) -> None:
        """Note whether the connection's send buffer has room."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to Ollama. It serves at most one exchange at a time. It calls `on_lost` when it is closed."""

    def __init__(self, on_lost: Callable[[UpstreamConnection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._user: UpstreamUser | None = None
        self._reader = ResponseReader(self.abort)
        # The event loop calls the reader directly, because a method here would add a call for each piece.
        self.data_received = self._reader.feed  # type: ignore[method-assign]
        #: Sends request bytes. The transport's own method, for the same reason.
        self.write: Callable[[bytes], None] = drop

    # ---- calls of the exchange and of the pool

    def attach(self, user: UpstreamUser) -> None:
        """Pass the next response to `user`."""
        self._user = user
        self._reader.expect(user, user.is_head_request)

    def detach(self) -> None:
        """Expect no response until the next `attach`."""
        self._user = None

    def pause(self) -> None:
        """Stop reading, because the client is slower than the upstream."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close immediately, so that the upstream stops computing."""
        self._user = None
        self._reader.abandon()
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write

    def eof_received(self) -> None:
        """Complete the response, or fail it if it is incomplete."""
        self._reader.eof()

    def connection_lost(self, error: Exception | None) -> None:
        """Notify the pool, and the exchange if its response is incomplete."""
        transport, self._transport = self._transport, None
        self.write = drop
        self._on_lost(self)
        if error is not None and transport is not None and self._user is not None:
            self._read_rest(transport)
        self._reader.eof(reset=error is not None)

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """Read what was received before the connection failed.

        An upstream can answer early, and close its connection while the request is still being sent (RFC 9112, 9.6).
        If the next bytes of the request are written before the response is read, the write fails, and the event loop
        reads no more. The response is still in the kernel's buffer.
        """
        left = _MAX_REST_BYTES
        with contextlib.suppress(OSError):
            while left > 0 and (data := os.read(transport.get_extra_info("socket").fileno(), left)):
                left -= len(data)
                self._reader.feed(data)

    def pause_writing(self) -> None:
        """Notify the exchange that the upstream reads the request slower than the client sends it."""
        if self._user is not None:
            self._user.upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """Notify the exchange that the upstream has caught up."""
        if self._user is not None:
            self._user.upstream_writable(writable=True)
