"""`requests.jsonl`: one line per request, written as requests end, so that memory does not grow with their number.

The file contains no text of prompts or responses. An error is there with its class; one example of the server's words
per class is in the summary.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from llmendpoint_loadjob.result.timings import Sample

FLUSH_SECONDS = 1.0
_FLUSH_BYTES = 256 * 1024
#: Fields of a sample that a line does not have. The message of a server may quote the prompt.
_OMITTED = frozenset({"detail", "gaps"})
#: Readings of the clock, which a line has as seconds since the start of the run.
_TIMES = ("scheduled", "sent", "first", "first_output", "last", "ended")
_LATENCIES = ("ttft", "tpot", "request_latency", "queue_delay")


class RequestLines:
    """Lines of requests that have ended, in a file or nowhere. A failed write ends the file, and not the run.

    `failure` is the reason, once there is one.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begin = clock()
        self._started = datetime.now(UTC)
        self._file: io.FileIO | None = None if path is None else path.open("wb", buffering=0)
        self._waiting = bytearray()
        self._encoder = msgspec.json.Encoder()
        self.failure = ""

    def begin(self) -> None:
        """Set the start of the run, from which times are counted."""
        self._begin = self._clock()
        self._started = datetime.now(UTC)

    def write(self, sample: Sample) -> None:
        """Add the line of a request."""
        if self._file is None:
            return
        self._encoder.encode_into(self._row(sample), self._waiting, -1)
        self._waiting += b"\n"
        if len(self._waiting) > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        file = self._file
        if file is None:
            return
        try:
            while self._waiting:
                del self._waiting[: file.write(self._waiting) or 0]
        except OSError as error:
            self.failure = f"{file.name}: {error.strerror}"
            self._waiting.clear()
            self.close()

    async def keep_flushing(self) -> None:
        """Write what is waiting every second, until the task is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        self.flush()
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _row(self, sample: Sample) -> dict[str, Any]:
        row: dict[str, Any] = msgspec.to_builtins(sample)
        for name in _OMITTED:
            row.pop(name, None)
        for name in _TIMES:
            if row.get(name) is not None:
                row[name] -= self._begin
        sent_at = self._started.timestamp() + sample.sent - self._begin
        row["sent_at"] = datetime.fromtimestamp(sent_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row |= {name: getattr(sample, name) for name in _LATENCIES}
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
