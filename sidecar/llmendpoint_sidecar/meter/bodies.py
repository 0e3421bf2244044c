"""Reads request bodies for the meter: ordinary ones in one step, and large ones beside the data path.

A body can take seconds to read, because a few MiB can contain a million fields, or decompress to far more. Therefore
large bodies are read in turns of the event loop, one body at a time and a few milliseconds per turn. A body is usually
read faster than it arrives, and then immediately. The bytes that wait are bounded: the meter gives up a body that
exceeds the bounds, and takes its model from the response.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.json_fields import STEP_BYTES
from llmendpoint_common.wire.request_body import BodyReader, RequestFacts

#: CPU time after which the event loop does other work. The last step (STEP_BYTES) can exceed it by some milliseconds.
_TURN_SECONDS = 0.005
#: Maximum number of bytes that wait to be read: of one body, and of all bodies.
_MAX_WAITING_BYTES = 1024 * 1024
_MAX_ALL_WAITING_BYTES = 8 * 1024 * 1024

UNKNOWN = RequestFacts()


class _Ordinary(msgspec.Struct):
    """The field of a request body that the meter reads."""

    model: str


_decode_ordinary = msgspec.json.Decoder(_Ordinary).decode


def model_of_ordinary(body: bytes) -> str | None:
    """Return the model in a JSON body that has the string `model` once, in any case. None for other bodies.

    Most bodies are of this kind, and are read in a fifth of the time that BodyReader takes. Without an escape in which
    it could be hidden, no other field has this name, also if case is ignored.
    """
    if body.lower().count(b'"model"') != 1 or b"\\u00" in body:
        return None
    try:
        return _decode_ordinary(body).model
    except (*UNREADABLE, RecursionError):
        return None


class Listener(Protocol):
    """Is told what a body says."""

    def body_read(self, facts: RequestFacts) -> None:
        """Note what the body says. Called once."""

    def fail(self, error: Exception) -> None:
        """Note that the body could not be read."""


class LargeBody:
    """A body that is being read, and its bytes that wait to be read."""

    __slots__ = ("_listener", "_reader", "has_ended", "is_waiting", "waiting_bytes")

    def __init__(self, reader: BodyReader, listener: Listener) -> None:
        self._reader: BodyReader | None = reader
        self._listener = listener
        self.has_ended = self.is_waiting = False
        self.waiting_bytes = 0

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        if self._reader is not None:
            self._reader.feed(data)
            self.waiting_bytes += len(data)

    def read(self, has_time: Callable[[], bool]) -> bool:
        """Read while there is time. Returns whether more bytes wait."""
        try:
            while self._reader is not None and self._reader.work(STEP_BYTES):
                if not has_time():
                    return True
        except Exception as error:
            self._listener.fail(error)
            self.give_up()
        self.waiting_bytes = 0
        return False

    def finish(self) -> None:
        """Read the rest, and tell what the body says, or the part of it that has arrived."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            facts = reader.finish()
        except RequestBodyError:
            facts = UNKNOWN
        except Exception as error:
            self._listener.fail(error)
            facts = UNKNOWN
        self._listener.body_read(facts)

    def give_up(self) -> None:
        """Discard the body. What it says stays unknown."""
        self.waiting_bytes = 0
        if self._reader is not None:
            self._reader = None
            self._listener.body_read(UNKNOWN)


class BodyQueue:
    """Large bodies with bytes that wait for their turn. Without an event loop, they are read immediately."""

    def __init__(self) -> None:
        self._bodies: deque[LargeBody] = deque()
        self._waiting_bytes = 0

    def feed(self, body: LargeBody, data: bytes) -> None:
        """Add the next bytes of a body. They are read now if no body waits."""
        before = body.waiting_bytes
        body.feed(data)
        self._waiting_bytes += body.waiting_bytes - before
        if body.is_waiting:
            if body.waiting_bytes > _MAX_WAITING_BYTES or self._waiting_bytes > _MAX_ALL_WAITING_BYTES:
                self._waiting_bytes -= body.waiting_bytes
                body.give_up()
        elif self._bodies or self._read(body):
            body.is_waiting = True
            self._bodies.append(body)
            if len(self._bodies) == 1:
                self._schedule()

    def end(self, body: LargeBody) -> None:
        """Note that no more bytes of a body will arrive."""
        body.has_ended = True
        if not body.is_waiting:
            body.finish()

    def give_up_all(self) -> None:
        """Discard all bodies that wait."""
        bodies, self._bodies = self._bodies, deque()
        self._waiting_bytes = 0
        for body in bodies:
            body.give_up()

    def _read(self, body: LargeBody) -> bool:
        # Time of this thread: if other processes use the core, more time has passed, but no more of it was used.
        deadline = time.thread_time() + _TURN_SECONDS
        before = body.waiting_bytes
        has_more = body.read(lambda: time.thread_time() < deadline)
        self._waiting_bytes -= before - body.waiting_bytes
        return has_more

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            while self._bodies:
                self._take_turn()
        else:
            loop.call_soon(self._take_turn_and_schedule)

    def _take_turn_and_schedule(self) -> None:
        if self._bodies:
            self._take_turn()
        if self._bodies:
            self._schedule()

    def _take_turn(self) -> None:
        body = self._bodies.popleft()
        if self._read(body):
            self._bodies.append(body)
            return
        body.is_waiting = False
        if body.has_ended:
            body.finish()
