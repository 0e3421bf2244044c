"""The hub: the current state, its changes as events, and the readers that receive them.

Sources write sections and rows at any time. The hub compares them with what it has, collects what changed, and turns it
into events when it is flushed (`run` does so a short time after the first change). An event is encoded once, whatever
the number of readers, and has a version that is higher than that of every event before it.

Each section, row and removed row has the version of its last change. Therefore the hub can tell a reader that was away
what has changed since the last event it saw, as long as the hub still remembers what was removed since then. Otherwise,
and if the version is from an earlier process (another epoch), the reader gets the whole state.

All methods must be called in the thread of the event loop. None of them blocks.
"""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from llmendpoint_dashboard.contract import Row, RowsEvent, SectionEvent, State, TableSection, ValueSection

R = TypeVar("R", bound=Row)

#: Time for which changes are collected before they are sent.
_COLLECT_SECONDS = 0.2
#: Head of a gzip stream without name and time (RFC 1952).
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
#: The fastest level. A higher one saves few bytes, and takes several times as long.
_COMPRESSION_LEVEL = 1
#: Number of removed rows that a table remembers, for readers that come back.
_MAX_REMOVED = 2000
#: Number of changes above which an event is split, so that no single event is very large.
_MAX_ROWS_PER_EVENT = 500
#: Bytes that wait for one reader before it is dropped. The whole state of 500 endpoints has about 1 MiB.
_MAX_READER_BYTES = 4 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Encoded:
    """The whole state as JSON, and its tag for `ETag` and `Last-Event-ID`."""

    tag: str
    body: bytes


@dataclass
class _Stored:
    """A row: as its source wrote it, as JSON, and the version at which it last changed."""

    row: Row
    data: bytes
    version: int = 0


@dataclass
class _Table:
    """Rows by key, the keys that changed since the last flush, and the removed keys with their versions."""

    rows: dict[str, _Stored] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    removed_now: dict[str, None] = field(default_factory=dict)
    removed: deque[tuple[int, str]] = field(default_factory=deque)
    #: Removals up to this version are forgotten.
    forgotten: int = 0

    def forget_old(self) -> None:
        """Drop the oldest removals if there are too many."""
        while len(self.removed) > _MAX_REMOVED:
            self.forgotten = self.removed.popleft()[0]


@dataclass
class _Section:
    """A value section, in the same form as a row."""

    value: msgspec.Struct | None = None
    data: bytes = b""
    version: int = 0
    is_changed: bool = False


class Frame:
    """Some events as bytes, and the same compressed. Each is made once, whatever the number of readers.

    The compressed form is a piece of a gzip stream that refers to no earlier piece, so that a reader can begin with any
    piece after `GZIP_HEAD`. Z_FULL_FLUSH ends a piece at a byte, and lets a reader decode it immediately.
    """

    __slots__ = ("_packed", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._packed: bytes | None = None

    @property
    def packed(self) -> bytes:
        """The compressed bytes."""
        if self._packed is None:
            deflate = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            self._packed = deflate.compress(self.plain) + deflate.flush(zlib.Z_FULL_FLUSH)
        return self._packed


class Reader:
    """Events that wait for one browser. `on_drop` is called once if it reads too slowly."""

    def __init__(self, on_drop: Callable[[], None], *, packed: bool = False) -> None:
        self._frames: deque[Frame] = deque()
        self._packed = packed
        self._waiting = 0
        self._ready = asyncio.Event()
        self._on_drop = on_drop
        self.is_dropped = False

    def put(self, frame: Frame) -> None:
        """Add a frame. If too many bytes wait, the reader is dropped and its frames are released."""
        if self.is_dropped:
            return
        # A first frame of any size is accepted, because the whole state may be large.
        if self._frames and self._waiting + len(frame.plain) > _MAX_READER_BYTES:
            self.close()
            self._on_drop()
            return
        self._frames.append(frame)
        self._waiting += len(frame.plain)
        self._ready.set()

    async def take(self, timeout: float) -> bytes:
        """Wait for frames, and return all that wait. Empty after `timeout` seconds, and if the reader is closed."""
        if not self._frames and not self.is_dropped:
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
            except TimeoutError:
                return b""
        data = b"".join(frame.packed if self._packed else frame.plain for frame in self._frames)
        self._frames.clear()
        self._waiting = 0
        return data

    def close(self) -> None:
        """Stop: no further frames are accepted, and `take` returns immediately."""
        self.is_dropped = True
        self._frames.clear()
        self._waiting = 0
        self._ready.set()


class Hub:
    """The state of the dashboard, and its readers."""

    def __init__(self, epoch: str | None = None) -> None:
        #: Identifies this process in the IDs of events.
        self.epoch = epoch or secrets.token_hex(4)
        self.version = 0
        self._sections = {name.value: _Section() for name in ValueSection}
        self._tables = {name.value: _Table() for name in TableSection}
        self._readers: set[Reader] = set()
        self._dirty = asyncio.Event()
        self._encoded: Encoded | None = None
        self._state_frame: Frame | None = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def set_section(self, name: str, value: msgspec.Struct) -> None:
        """Replace a value section. If it is equal to the present value, nothing is sent."""
        section = self._sections[name]
        data = _encode(value)
        if data != section.data:
            section.value, section.data, section.is_changed = value, data, True
            self._dirty.set()

    def upsert(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows to a table section, or replace them by key. Rows that have not changed are not sent."""
        table = self._tables[name]
        for row in rows:
            stored = table.rows.get(row.key)
            data = _encode(row)
            if stored is None:
                table.rows[row.key] = _Stored(row, data)
            elif stored.data != data:
                stored.row, stored.data = row, data
            else:
                continue
            table.changed[row.key] = None
            table.removed_now.pop(row.key, None)
            self._dirty.set()

    def remove(self, name: str, keys: Iterable[str]) -> None:
        """Remove rows from a table section. Keys without a row are ignored."""
        table = self._tables[name]
        for key in keys:
            if table.rows.pop(key, None) is not None:
                table.changed.pop(key, None)
                table.removed_now[key] = None
                self._dirty.set()

    # --- reading ------------------------------------------------------------------------------------------------------

    def section(self, name: str) -> msgspec.Struct | None:
        """Return a value section as it was written, or None if it is not known yet."""
        return self._sections[name].value

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a table section as they were written."""
        return [stored.row for stored in self._tables[name].rows.values()]

    def row(self, name: str, key: str, kind: type[R]) -> R | None:
        """Return a row by its key, or None."""
        stored = self._tables[name].rows.get(key)
        return stored.row if stored is not None and isinstance(stored.row, kind) else None

    def encoded(self) -> Encoded:
        """Return the whole state. It is encoded once for each version."""
        self.flush()
        if self._encoded is None:
            sections: dict[str, Any] = {
                name: msgspec.Raw(section.data) for name, section in self._sections.items() if section.data
            }
            for name, table in self._tables.items():
                sections[name] = [msgspec.Raw(stored.data) for stored in table.rows.values()]
            body = _encode(State(epoch=self.epoch, version=self.version, sections=sections))
            self._encoded = Encoded(self._tag(self.version), body)
        return self._encoded

    # --- readers ------------------------------------------------------------------------------------------------------

    @property
    def reader_count(self) -> int:
        """Number of readers that are connected."""
        return len(self._readers)

    def join(self, last_event_id: str, on_drop: Callable[[], None], *, packed: bool = False) -> Reader:
        """Add a reader, which first gets what changed since `last_event_id`, or else the whole state."""
        self.flush()
        reader = Reader(on_drop, packed=packed)
        missed = self._since(last_event_id)
        if missed is None:
            reader.put(self._whole())
        elif missed:
            reader.put(Frame(missed))
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Remove a reader."""
        reader.close()
        self._readers.discard(reader)

    def close(self) -> None:
        """Close all readers, so that their connections end."""
        for reader in tuple(self._readers):
            self.leave(reader)

    async def run(self) -> None:
        """Send changes to the readers, a short time after the first one, until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_COLLECT_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Send all changes since the last call to the readers."""
        if not self._dirty.is_set():
            return
        self._dirty.clear()
        self._encoded = self._state_frame = None
        frames: list[bytes] = []
        for name, section in self._sections.items():
            if section.is_changed:
                section.is_changed = False
                section.version = self._next()
                frames.append(self._section_frame(name, section))
        for name, table in self._tables.items():
            frames += self._flush_table(name, table)
        if frames:
            frame = Frame(b"".join(frames))
            for reader in tuple(self._readers):
                reader.put(frame)

    def _flush_table(self, name: str, table: _Table) -> Iterable[bytes]:
        changed, removed = list(table.changed), list(table.removed_now)
        table.changed.clear()
        table.removed_now.clear()
        if removed:
            version = self._next()
            table.removed.extend((version, key) for key in removed)
            table.forget_old()
            yield self._rows_frame(name, version, [], removed)
        for start in range(0, len(changed), _MAX_ROWS_PER_EVENT):
            version = self._next()
            part = [table.rows[key] for key in changed[start : start + _MAX_ROWS_PER_EVENT]]
            for stored in part:
                stored.version = version
            yield self._rows_frame(name, version, part, [])

    def _whole(self) -> Frame:
        """Return the event with the whole state. It is made once for each version."""
        state = self.encoded()
        if self._state_frame is None:
            self._state_frame = Frame(_frame("state", state.tag, state.body))
        return self._state_frame

    def _since(self, last_event_id: str) -> bytes | None:
        """Return the events for a reader that saw `last_event_id`, or None if it needs the whole state."""
        epoch, _, text = last_event_id.rpartition("-")
        if epoch != self.epoch or not text.isascii() or not text.isdecimal() or len(text) > 18:
            return None
        seen = int(text)
        if seen > self.version or any(seen < table.forgotten for table in self._tables.values()):
            return None
        # The ID comes last, without an event, because each of these events contains changes of many versions.
        frames = [
            self._section_frame(name, section, tagged=False)
            for name, section in self._sections.items()
            if section.version > seen
        ]
        for name, table in self._tables.items():
            gone = [key for version, key in table.removed if version > seen and key not in table.rows]
            rows = [stored for stored in table.rows.values() if stored.version > seen]
            if gone or rows:
                frames.append(self._rows_frame(name, None, rows, gone))
        if not frames:
            return b""
        return b"".join(frames) + f"id: {self._tag(self.version)}\n\n".encode()

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _tag(self, version: int) -> str:
        return f"{self.epoch}-{version}"

    def _section_frame(self, name: str, section: _Section, *, tagged: bool = True) -> bytes:
        tag = self._tag(section.version) if tagged else None
        return _frame("section", tag, _encode(SectionEvent(name=name, value=msgspec.Raw(section.data))))

    def _rows_frame(self, name: str, version: int | None, rows: list[_Stored], removed: list[str]) -> bytes:
        event = RowsEvent(name=name, upsert=[msgspec.Raw(stored.data) for stored in rows], remove=removed)
        return _frame("rows", None if version is None else self._tag(version), _encode(event))


class RowWriter:
    """One of several writers of a table section. It replaces its own rows, and leaves those of others."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self._name = name
        self._keys: set[str] = set()

    def replace(self, rows: Iterable[Row]) -> None:
        """Write all rows of this writer. Its earlier rows that are not among them are removed."""
        present = list(rows)
        keys = {row.key for row in present}
        self._hub.remove(self._name, self._keys - keys)
        self._hub.upsert(self._name, present)
        self._keys = keys


def _frame(event: str, tag: str | None, data: bytes) -> bytes:
    """Return an event of the server-sent events format. JSON has no line breaks, so the data is one line."""
    head = f"event: {event}\n" if tag is None else f"id: {tag}\nevent: {event}\n"
    return b"%bdata: %b\n\n" % (head.encode(), data)
