"""A connection to Ollama. A `ResponseReader` parses the responses and calls the exchange.

Bytes can be written before the connection is open. They are sent immediately if the kernel has already connected
(`dialer`). Otherwise they are sent when the connection is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Protocol, cast

from llmendpoint_common.process.errors import UpstreamError
from llmendpoint_common.wire.http1.response_reader import ResponseHandler, ResponseReader
from llmendpoint_sidecar.proxy.dialer import Dialer, Opening

log = logging.getLogger(__name__)

#: If more bytes wait until the connection is open, nothing more is read from the client.
_MAX_WAITING_BYTES = 256 * 1024
#: Maximum number of bytes that are read after the connection was lost. An early error response has a few hundred.
_MAX_REST_BYTES = 256 * 1024


def drop(data: bytes) -> None:
    """Discard bytes. It is `write` of a connection that is closed."""


class UpstreamUser(ResponseHandler, Protocol):
    """The exchange that uses a connection."""

    is_head_request: bool

    def upstream_writable(self, *, writable: bool) -> None:
        """Note whether the connection's send buffer has room."""

    def waiting_bytes_sent(self) -> None:
        """Note that the bytes that waited for the connection were sent now."""

    def upstream_unreachable(self, error: UpstreamError) -> None:
        """Note that the connection could not be opened."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to Ollama. It serves at most one exchange at a time. It calls `on_lost` when it is closed."""

    def __init__(self, on_lost: Callable[[UpstreamConnection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._user: UpstreamUser | None = None
        self._reader = ResponseReader(self.abort)
        # The event loop calls the reader directly, because a method here would add a call for each piece.
        self.data_received = self._reader.feed  # type: ignore[method-assign]
        #: Sends request bytes. When the connection is open, it is the transport's own method, for the same reason.
        self.write: Callable[[bytes], None] = drop
        #: Not None until the connection is open. The task is kept, because asyncio only keeps weak references.
        self._opening: tuple[Opening, asyncio.Task[None]] | None = None
        self._paused = self._aborted = False
        #: Whether nothing more should be written now, because too many bytes wait.
        self._is_full = False

    # ---- calls of the exchange and of the pool

    def open(self, dialer: Dialer) -> None:
        """Begin to open the connection."""
        opening = Opening(dialer)
        self._opening = opening, asyncio.get_running_loop().create_task(self._open(opening))
        self.write = self._write_early

    def attach(self, user: UpstreamUser) -> None:
        """Pass the next response to `user`."""
        self._user = user
        self._reader.expect(user, user.is_head_request)

    def detach(self) -> None:
        """Expect no response until the next `attach`."""
        self._user = None

    def pause(self) -> None:
        """Stop reading, because the client is slower than the upstream."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close immediately, so that the upstream stops computing."""
        self._user = None
        self._aborted = True
        self._reader.abandon()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening[0].close()
            opening[1].cancel()
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. `_opened` follows."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self._aborted:
            self._transport.abort()
            return
        if self._opening is None:
            self.write = self._transport.write
        if self._paused:
            # uvloop begins to read after this call.
            asyncio.get_running_loop().call_soon(self._pause_again)

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
        self._is_full = True
        if self._user is not None:
            self._user.upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """Notify the exchange that the upstream has caught up."""
        self._is_full = False
        if self._user is not None:
            self._user.upstream_writable(writable=True)

    # ---- opening

    def _write_early(self, data: bytes) -> None:
        """Send bytes before the connection is open. If too many wait, stop reading from the client."""
        if self._opening is None:
            return
        if self._opening[0].write(data) > _MAX_WAITING_BYTES and not self._is_full:
            self.pause_writing()

    def _send_waiting(self, data: bytes) -> None:
        """Send the bytes that waited for the connection. If its buffer is not full then, ask for more."""
        was_full, self._is_full = self._is_full, False
        self.write(data)
        if self._user is None:
            return
        if was_full and not self._is_full:
            self._user.upstream_writable(writable=True)
        self._user.waiting_bytes_sent()

    async def _open(self, opening: Opening) -> None:
        try:
            await opening.run(self)
        except UpstreamError as error:
            self._fail(error)
        except Exception:
            log.exception("a connection to the upstream could not be opened")
            self._fail(UpstreamError("the connection could not be opened"))
        else:
            self._opened(opening)

    def _opened(self, opening: Opening) -> None:
        """Send the bytes that wait for the connection.

        This is not done in `connection_made`: if a write fails there, uvloop closes the file descriptor but not the
        socket object, which would later close the descriptor again.
        """
        self._opening = None
        if self._transport is None:
            return
        self.write = self._transport.write
        if waiting := opening.take_waiting():
            self._send_waiting(waiting)

    def _fail(self, error: UpstreamError) -> None:
        user, self._opening = self._user, None
        self.abort()
        if user is not None:
            user.upstream_unreachable(error)

    def _pause_again(self) -> None:
        if self._paused:
            self.pause()
