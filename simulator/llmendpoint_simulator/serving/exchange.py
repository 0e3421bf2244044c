"""One request and its response, which is whole or a stream."""

from __future__ import annotations

import asyncio

from llmendpoint_simulator.serving.connection import Connection, Request
from llmendpoint_simulator.serving.responses import LAST_CHUNK, Response, encoded, framed, stream_head


class Exchange:
    """One request and its response. A stream begins with `begin`; its head is sent with the first bytes, as in Ollama.

    All methods do nothing after the end.
    """

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.is_ended = False
        #: Headers that are added to the response.
        self.fields: tuple[tuple[str, str], ...] = ()
        self._head = b""
        self._is_chunked = request.version != "1.0"
        self._drained: asyncio.Future[None] | None = None

    def add_fields(self, *fields: tuple[str, str]) -> None:
        """Add headers to the response. `Connection` is left out if the connection will be closed."""
        kept = self.request.keep_alive and self._is_chunked
        self.fields += tuple(field for field in fields if kept or field[0] != "Connection")

    def respond(self, response: Response) -> None:
        """Send a whole response."""
        if self.is_ended:
            return
        self.is_ended = True
        request = self.request
        if self.fields:
            response = response._replace(fields=(*response.fields, *self.fields))
        data = encoded(
            response, version=request.version, keep_alive=request.keep_alive, head_only=request.method == "HEAD"
        )
        self.connection.send(data)
        self.connection.end()

    def respond_in_part(self, response: Response) -> None:
        """Send the first half of a whole response, and close the connection."""
        data = encoded(response, version=self.request.version, keep_alive=self.request.keep_alive)
        self.send(data[: len(data) - len(response.body) // 2])
        self.truncate()

    def begin(self, content_type: str) -> None:
        """Begin a stream."""
        request = self.request
        kind = Response(200, content_type=content_type, fields=self.fields)
        self._head = stream_head(kind, version=request.version, keep_alive=request.keep_alive)

    def write(self, data: bytes) -> bool:
        """Send bytes of a stream, as one chunk. Returns False if the client reads too slowly, or has left."""
        return self.send(framed(data) if self._is_chunked else data)

    def framed(self, data: bytes) -> bytes:
        """Return bytes of a stream as they are sent: as one chunk, or for HTTP/1.0 unchanged."""
        return framed(data) if self._is_chunked else data

    def send(self, data: bytes) -> bool:
        """Send bytes of a stream that `framed` has returned."""
        if self.is_ended:
            return False
        if self._head:
            data, self._head = self._head + data, b""
        return self.connection.send(data)

    async def drained(self) -> None:
        """Wait until the kernel has taken all bytes."""
        self._drained = asyncio.get_running_loop().create_future()
        self.connection.on_drained = self._on_drained
        await self._drained

    def _on_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def end(self, data: bytes = b"") -> None:
        """Send the last bytes of a stream, and end it."""
        if self.is_ended:
            return
        last = (framed(data) if data else b"") + LAST_CHUNK if self._is_chunked else data
        self.send(last)
        self.is_ended = True
        self.connection.end(close=not self._is_chunked)

    def truncate(self) -> None:
        """Close the connection before the end of the response. What has been sent arrives."""
        if not self.is_ended:
            self.send(b"")
            self.is_ended = True
            self.connection.on_lost = None
            self.connection.close_after_sending()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        if not self.is_ended:
            self.is_ended = True
            self.connection.on_lost = None
            self.connection.reset()
