"""What parent and worker say to each other: MessagePack in frames of a length and so many bytes, over a socket pair."""

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


class AskNumbers(msgspec.Struct, frozen=True, tag=True):
    """What have you counted since you started?"""


class AskRecord(msgspec.Struct, frozen=True, tag=True):
    """What became of that request?"""

    request_id: str


class Serving(msgspec.Struct, frozen=True, tag=True):
    """I take connections: the first thing that a worker says."""


class Numbers(msgspec.Struct, frozen=True, tag=True):
    """Counted since the worker started, and requests in flight by model."""

    metrics: Snapshot
    in_flight: dict[str, int]


class Found(msgspec.Struct, frozen=True, tag=True):
    """The record, where this worker has it."""

    record: RequestRecord | None


Message: TypeAlias = AskNumbers | AskRecord | Serving | Numbers | Found


class Channel:
    """One end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Return a channel over one end of a socket pair, which it owns from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def send(self, message: Message) -> None:
        """Send; ChannelClosedError where nobody is there."""
        data = msgspec.msgpack.encode(message)
        try:
            self._writer.write(_LENGTH.pack(len(data)) + data)
            await self._writer.drain()
        except ConnectionError:
            raise ChannelClosedError from None

    async def receive(self) -> Message:
        """Return the next message; ChannelClosedError where there will be none."""
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
