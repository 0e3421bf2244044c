"""`requests.jsonl`: one line per request, written as requests end, so that memory does not grow with their number.

The file contains no text of prompts or responses. An error is there with its class; one example of the server's words
per class is in the summary.
"""

from __future__ import annotations

import io
import os
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
_OMITTED = frozenset({"detail", "gaps", "wanted_input", "wanted_output"})
#: Readings of the clock, which a line has as seconds since the start of the run.
_TIMES = ("scheduled", "sent", "first", "first_output", "last", "ended")
_LATENCIES = ("ttft", "tpot", "request_latency", "queue_delay")
#: Values that are rounded to microseconds: all of type float.
_SECONDS = (*_TIMES, *_LATENCIES, "connect", "server_load", "server_prefill", "server_decode", "server_total", "held",
            "retry_after")  # fmt: skip


class RequestLines:
    """Lines of requests that have ended. A failed write ends the file after its last whole line, and not the run.

    `failure` is the reason, once there is one. `written` is the number of lines in the file, and `missing` that of the
    lines that could not be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begin = clock()
        self._started = datetime.now(UTC)
        self._path = path
        self._file: io.FileIO | None = path.open("wb", buffering=0)
        self._waiting = bytearray()
        self._encoder = msgspec.json.Encoder()
        #: Size of the file, and where its last whole line ends.
        self._size = 0
        self._end_of_line = 0
        self.written = 0
        self.missing = 0
        self.failure = ""

    def begin(self) -> None:
        """Set the start of the run, from which times are counted."""
        self._begin = self._clock()
        self._started = datetime.now(UTC)

    def write(self, sample: Sample) -> None:
        """Add the line of a request."""
        if self._file is None:
            self.missing += 1
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
                self._note_written(file.write(self._waiting) or 0)
        except OSError as error:
            self._fail(f"{self._path}: {error.strerror}")

    def close(self) -> None:
        """Write what is waiting, and close the file. That it was removed during the run is a failure."""
        self.flush()
        file = self._file
        if file is not None:
            with suppress(OSError):
                if not os.fstat(file.fileno()).st_nlink:
                    self.missing, self.written = self.missing + self.written, 0
                    self._fail(f"{self._path}: the file was removed during the run")
        self._close()

    def _note_written(self, count: int) -> None:
        """Take the first bytes off what is waiting. A full disk can cut a line anywhere."""
        end = self._waiting.rfind(b"\n", 0, count) + 1
        if end:
            self._end_of_line = self._size + end
            self.written += self._waiting.count(b"\n", 0, end)
        self._size += count
        del self._waiting[:count]

    def _fail(self, failure: str) -> None:
        self.failure = failure
        self.missing += self._waiting.count(b"\n")
        self._waiting.clear()
        file = self._file
        if file is not None and self._size > self._end_of_line:
            with suppress(OSError):
                file.truncate(self._end_of_line)
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _row(self, sample: Sample) -> dict[str, Any]:
        row: dict[str, Any] = msgspec.to_builtins(sample)
        for name in _OMITTED:
            del row[name]
        for name in _TIMES:
            if row[name] is not None:
                row[name] -= self._begin
        sent_at = self._started.timestamp() + sample.sent - self._begin
        row["sent_at"] = datetime.fromtimestamp(sent_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name in _LATENCIES:
            row[name] = getattr(sample, name)
        for name in _SECONDS:
            if row[name] is not None:
                row[name] = round(row[name], 6)
        return row
