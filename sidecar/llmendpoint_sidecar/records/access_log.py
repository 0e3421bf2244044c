"""The access log: one JSON object per request on stdout, without content. It is off by default."""

from __future__ import annotations

import asyncio
import select
import sys
import threading
from collections import deque
from typing import BinaryIO

import msgspec

from llmendpoint_common.contracts.sidecar import RequestRecord

#: Maximum number of records that are not written yet. At 3,000 requests per second, this takes three seconds.
_MAX_WAITING = 10_000
_FLUSH_SECONDS = 0.2
#: Writes of up to this size to a pipe are not interleaved with those of other processes (pipe(7)).
_ATOMIC_BYTES = select.PIPE_BUF


class AccessLog:
    """Buffers records, and writes them in a thread. If stdout is too slow, the oldest records are lost."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        # When the process stops, the last records are written while a thread may still write those before them.
        self._writing = threading.Lock()

    def add(self, record: RequestRecord) -> None:
        """Add a record to the buffer."""
        self._waiting.append(msgspec.json.encode(record))

    async def run(self) -> None:
        """Write the records at an interval, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_SECONDS)
                if self._waiting:
                    await asyncio.to_thread(self.flush)
        finally:
            self.flush()

    def flush(self) -> None:
        """Write all buffered records, after those that another thread is writing. This call blocks."""
        with self._writing:
            lines = deque(self._waiting.popleft() + b"\n" for _ in range(len(self._waiting)))
            while lines:
                whole = b""
                while lines and len(whole) + len(lines[0]) <= _ATOMIC_BYTES:
                    whole += lines.popleft()
                self._stream.write(whole or lines.popleft())
                self._stream.flush()
