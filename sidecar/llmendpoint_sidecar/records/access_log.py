"""The access log: one JSON object a request on stdout, without content; off unless asked for."""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from typing import BinaryIO

import msgspec

from llmendpoint_common.contracts.sidecar import RequestRecord

_MAX_WAITING = 10_000
_FLUSH_SECONDS = 0.2
_ATOMIC_BYTES = select.PIPE_BUF


class AccessLog:
    """Takes records on the data path and writes them beside it; where stdout does not keep up, the oldest are lost."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)

    def add(self, record: RequestRecord) -> None:
        """Keep a record until it is written."""
        self._waiting.append(msgspec.json.encode(record))

    async def run(self) -> None:
        """Write what waits, again and again; the last time when cancelled."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_SECONDS)
                if self._waiting:
                    await asyncio.to_thread(self._write)
        finally:
            self._write()

    def _write(self) -> None:
        lines = deque(self._waiting.popleft() + b"\n" for _ in range(len(self._waiting)))
        while lines:
            # What is written at once and is no larger than this is not torn by other workers (pipe(7)).
            whole = b""
            while lines and len(whole) + len(lines[0]) <= _ATOMIC_BYTES:
                whole += lines.popleft()
            self._stream.write(whole or lines.popleft())
            self._stream.flush()
