"""A log file that is rotated while a process writes: `NAME.log`, and the older parts `NAME.log.1` to `NAME.log.4`.

The supervisor reads the output of a process from a pipe and writes it here, so that rotation needs nothing from the
process, and loses no line (logrotate's `copytruncate` loses what is written between the copy and the truncation). While
the disk is full, up to 1 MiB stays in memory, and is written when there is space again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
PARTS = 5
_LOST = "\n[llmendpoint: {} bytes of this log were lost, because it could not be written]\n"
_MAX_WAITING_BYTES = 1024 * 1024


class LogFile:
    """An append-only log file of bounded size, readable by the user only. No method raises OSError."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file = -1
        self._identity: tuple[int, int] | None = None
        self._size = 0
        # Bytes that could not be written yet.
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost_bytes = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Those that cannot be written are kept, and written with one of the next calls."""
        if not data:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.flush()
        while self._waiting_bytes > _MAX_WAITING_BYTES:
            dropped = len(self._waiting.popleft())
            self._waiting_bytes -= dropped
            self._lost_bytes += dropped

    def flush(self) -> None:
        """Write the bytes that are kept in memory, if the disk has space."""
        try:
            self._reopen_if_moved()
            while self._waiting:
                if self._lost_bytes:
                    note = _LOST.format(self._lost_bytes).encode()
                    if self._append(note) < len(note):
                        return
                    self._lost_bytes = 0
                data = self._waiting.popleft()
                self._waiting_bytes -= len(data)
                written = 0
                try:
                    written = self._append_with_rotation(data)
                finally:
                    if written < len(data):
                        self._waiting.appendleft(data[written:])
                        self._waiting_bytes += len(data) - written
                if written < len(data):
                    return
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append_with_rotation(self, data: bytes) -> int:
        """Append bytes, and return how many were written. A part ends with a line, unless the line is very long."""
        total = 0
        while total < len(data):
            rest = data[total:]
            end = self._end_of_part(rest)
            written = self._append(rest[:end])
            total += written
            if written < end:
                break
            if end < len(rest) or (self._size >= self._max_bytes and rest.endswith(b"\n")):
                self._rotate()
        return total

    def _end_of_part(self, data: bytes) -> int:
        """Return how many of these bytes belong to the part that is open."""
        room = self._max_bytes - self._size
        if len(data) <= room:
            return len(data)
        end = data.rfind(b"\n", 0, max(room, 0)) + 1 or data.find(b"\n") + 1 or len(data)
        # Twice the size, a line is cut.
        return max(1, min(end, room + self._max_bytes))

    def _append(self, data: bytes) -> int:
        written = 0
        while written < len(data):
            try:
                count = os.write(self._file, data[written:])
            except OSError:
                return written
            written += count
            self._size += count
        return written

    def _reopen_if_moved(self) -> None:
        """Open the file. If another program has moved or removed it, open a new one."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                found = self.path.stat()
                if (found.st_dev, found.st_ino) == self._identity:
                    return
            self.close()
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        opened = os.fstat(self._file)
        self._identity = (opened.st_dev, opened.st_ino)
        self._size = opened.st_size

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{part}") for part in range(1, PARTS))]
        for newer, older in reversed(list(itertools.pairwise(names))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        self._reopen_if_moved()


def tail_of(path: Path, lines: int) -> str:
    """Return the last lines of a log and of its rotated files, with line endings, or "" if the log does not exist."""
    collected: list[str] = []
    for file in (path, *(path.with_name(f"{path.name}.{part}") for part in range(1, PARTS))):
        if len(collected) >= lines:
            break
        with contextlib.suppress(OSError), file.open("rb") as opened:
            text = _last_bytes(opened.fileno(), lines * 4096).decode(errors="replace")
            collected = text.splitlines() + collected
    return "".join(f"{line}\n" for line in collected[-lines:] if lines)


def _last_bytes(file: int, count: int) -> bytes:
    size = os.fstat(file).st_size
    start = max(0, size - max(count, 1))
    data = os.pread(file, size - start, start)
    # A part of a line is left out.
    return data[data.find(b"\n") + 1 :] if start else data
