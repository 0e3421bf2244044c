"""A relay that only forwards bytes: a lower bound of the cost of any proxy in Python. It does not meter."""

from __future__ import annotations

import asyncio
import sys

import uvloop


class Side(asyncio.Protocol):
    """A side of a relayed connection: the upstream, or the client (`Front`)."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


class Front(Side):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        host, port = sys.argv[2].rsplit(":", 1)
        _, back = await asyncio.get_running_loop().create_connection(Side, host, int(port))
        self.other, back.other = back, self
        for data in self.early:
            back.transport.write(data)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Front, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
