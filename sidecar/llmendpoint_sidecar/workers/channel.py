"""Messages between the supervisor and a worker, over a socket pair.

A frame is a length (4 bytes, big-endian) and a message in MessagePack.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TypeAlias

import msgspec

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.meter.metrics import Snapshot

_LENGTH = struct.Struct("!I")
_MAX_FRAME_BYTES = 256 * 1024 * 1024


class AskMetrics(msgspec.Struct, frozen=True, tag=True):
    """Request for the metrics of a worker. The response is `WorkerMetrics`."""


class AskRecord(msgspec.Struct, frozen=True, tag=True):
    """Request for the records of a request ID, of one tenant if it is not None. The response is `Found`."""

    request_id: str
    tenant: str | None


class Serving(msgspec.Struct, frozen=True, tag=True):
    """First message of a worker, when it accepts connections."""


class WorkerMetrics(msgspec.Struct, frozen=True, tag=True):
    """Metrics of a worker since it started, and its requests in flight by model."""

    metrics: Snapshot
    in_flight: dict[str, int]


class Found(msgspec.Struct, frozen=True, tag=True):
    """Response to `AskRecord`: at most one record for each tenant."""

    records: list[RequestRecord]


Message: TypeAlias = AskMetrics | AskRecord | Serving | WorkerMetrics | Found


class Channel:
    """An end of a socket pair that carries messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Return a channel over one end of a socket pair. The channel owns the socket and closes it."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def send(self, message: Message) -> None:
        """Send a message. Raises ChannelClosedError if the other process has ended."""
        data = msgspec.msgpack.encode(message)
        try:
            self._writer.write(_LENGTH.pack(len(data)) + data)
            await self._writer.drain()
        except ConnectionError:
            raise ChannelClosedError from None

    async def receive(self) -> Message:
        """Wait for the next message. Raises ChannelClosedError if the other process has ended."""
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if size > _MAX_FRAME_BYTES:
                raise ChannelClosedError
            return self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChannelClosedError from None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
