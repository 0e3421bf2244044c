"""Messages between the supervisor and a worker, over a socket pair.

A frame is a length and a number (4 bytes each, big-endian), and a message in MessagePack. The supervisor numbers its
questions, and an answer has the number of its question.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TypeAlias

import msgspec

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.process.errors import ChannelClosedError
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.meter.metrics import Snapshot
from llmendpoint_sidecar.meter.traffic import ModelTraffic
from llmendpoint_sidecar.policy.hung import HungNotice

_HEAD = struct.Struct("!II")
_MAX_FRAME_BYTES = 256 * 1024 * 1024


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Content of the input files: the first message to a worker, and sent again when they change.

    The response is `Serving` to the first one, and then `Done`. API keys are in it as digests. The private key of the
    certificate is in it as it is. The socket pair has no name, and only these two processes have its ends.
    """

    inputs: Inputs
    #: Only in the first message, so that a worker that starts while Ollama is hung forwards nothing before it knows.
    hung: HungNotice | None = None


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Question whether the event loop of a worker runs. The response is `Done`."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """Response to `Ping`, and to `Configure` when the inputs are in use."""


class AskMetrics(msgspec.Struct, frozen=True, tag=True):
    """Request for the metrics of a worker. The response is `WorkerMetrics`."""


class AskRecord(msgspec.Struct, frozen=True, tag=True):
    """Request for the records of a request ID, of one tenant if it is not None. The response is `Found`."""

    request_id: str
    tenant: str | None


class AskLast(msgspec.Struct, frozen=True, tag=True):
    """Request for the last records of requests that ended after a Unix time. The response is `Found`."""

    after: float
    limit: int


class AskTraffic(msgspec.Struct, frozen=True, tag=True):
    """Question for the requests in flight of a worker. The response is `WorkerTraffic`."""


class WorkerTraffic(msgspec.Struct, frozen=True, tag=True):
    """Requests in flight of a worker, by the label of their model."""

    traffic: dict[str, ModelTraffic]


class NoteHung(msgspec.Struct, frozen=True, tag=True):
    """Ollama is hung, or no longer (None). The response is `Done`."""

    notice: HungNotice | None


class Serving(msgspec.Struct, frozen=True, tag=True):
    """First message of a worker, when it accepts connections. It answers the first `Configure`."""


class WorkerMetrics(msgspec.Struct, frozen=True, tag=True):
    """Metrics of a worker since it started, and its requests in flight by model."""

    metrics: Snapshot
    in_flight: dict[str, int]


class Found(msgspec.Struct, frozen=True, tag=True):
    """Response to `AskRecord`, with at most one record for each tenant, and to `AskLast`."""

    records: list[RequestRecord]


Message: TypeAlias = (
    Configure
    | Ping
    | Done
    | AskMetrics
    | AskRecord
    | AskLast
    | AskTraffic
    | NoteHung
    | Serving
    | WorkerMetrics
    | WorkerTraffic
    | Found
)


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

    def post(self, number: int, message: Message) -> None:
        """Send a message without waiting until it is written. It is lost if the other process has ended."""
        data = msgspec.msgpack.encode(message)
        self._writer.write(_HEAD.pack(len(data), number) + data)

    async def send(self, number: int, message: Message) -> None:
        """Send a message, and wait until it is written. Raises ChannelClosedError if the other process has ended."""
        try:
            self.post(number, message)
            await self._writer.drain()
        except ConnectionError:
            raise ChannelClosedError from None

    async def receive(self) -> tuple[int, Message]:
        """Wait for the next message, and return it with its number.

        Raises ChannelClosedError if the other process has ended.
        """
        try:
            size, number = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            if size > _MAX_FRAME_BYTES:
                raise ChannelClosedError
            return number, self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChannelClosedError from None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
