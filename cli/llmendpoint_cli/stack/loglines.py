"""Lines of the logs of a stack: merged by time, followed through rotations, and safe to print on a terminal."""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from llmendpoint_cli.stack.logfile import PARTS, tail_of

#: The time of a line, in the notations of our programs, Ollama and Prometheus (RFC 3339).
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_LOOKED_AT = 200


class Line(NamedTuple):
    """A line of the log of a program."""

    name: str
    text: str


def last_lines(folder: Path, names: Sequence[str], count: int) -> list[Line]:
    """Return the last `count` lines of some logs, in the order of their times.

    A line without a time, such as one of a traceback, stays behind the line before it.
    """
    merged = heapq.merge(*(_timed(folder, name, count) for name in names))
    lines = [Line(name, text) for _, name, _, text in merged]
    return lines[-count:] if count else []


def log_names(folder: Path) -> list[str]:
    """Return the names of all logs."""
    return sorted(path.name.removesuffix(".log") for path in folder.glob("*.log"))


class Follower:
    """Reads lines that are appended to a log, also if the file is rotated, or does not exist yet."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / f"{name}.log"
        self._file = -1
        self._part = b""
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_RDONLY)
            os.lseek(self._file, 0, os.SEEK_END)

    def read(self) -> Iterator[Line]:
        """Yield the lines that have arrived since the last call."""
        yield from self._read_open()
        for path in self._newer():
            with contextlib.suppress(OSError):
                newer = os.open(path, os.O_RDONLY)
                if self._file >= 0:
                    os.close(self._file)
                self._file = newer
                yield from self._read_open()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_open(self) -> Iterator[Line]:
        while self._file >= 0 and (data := os.read(self._file, 65536)):
            *lines, self._part = (self._part + data).split(b"\n")
            yield from (Line(self.name, line.decode(errors="replace")) for line in lines)

    def _newer(self) -> list[Path]:
        """Return the parts that are newer than the one that is open, the oldest first."""
        parts = [self._path, *(self._path.with_name(f"{self._path.name}.{part}") for part in range(1, PARTS))]
        if self._file < 0:
            return parts[:1] if self._path.exists() else []
        opened = os.fstat(self._file)
        newer: list[Path] = []
        for path in parts:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), opened):
                    return newer[::-1]
                newer.append(path)
        # Another program has removed the part that is open.
        return parts[:1] if self._path.exists() else []


def readable(text: str) -> str:
    """Return a line for a terminal: JSON of our programs as text, and control characters escaped."""
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(text)
            if isinstance(entry, dict) and isinstance(entry.get("message"), str):
                text = _as_text(entry)
    return "".join(letter if letter.isprintable() or letter == "\t" else ascii(letter)[1:-1] for letter in text)


def _as_text(entry: dict[str, object]) -> str:
    time = str(entry.get("time", ""))[11:19]
    level = str(entry.get("level", "")).upper()
    fields = [f"{name}={value}" for name, value in entry.items()
              if name not in ("time", "level", "logger", "message", "exception")]  # fmt: skip
    failure = [str(entry["exception"])] if "exception" in entry else []
    return " ".join([time, f"{level:<7}", str(entry["message"]), *fields, *failure])


def _timed(folder: Path, name: str, count: int) -> Iterator[tuple[str, str, int, str]]:
    latest = ""
    for number, text in enumerate(tail_of(folder / f"{name}.log", count).splitlines()):
        found = _TIME.search(text, 0, _LOOKED_AT)
        # Lines stay in the order of their log, although clocks can be set back.
        latest = max(latest, found[0]) if found else latest
        yield latest, name, number, text
