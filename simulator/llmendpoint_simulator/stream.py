"""Sends an answer chunk by chunk, each one at its time.

A chunk costs a timer and a `send`. Tasks that sleep cost several times as much. Times are computed from the start, so
delays do not accumulate. Chunks that are due together are sent together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.injection import Injected
from llmendpoint_simulator.pace import Pace
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.timers import Timers
from llmendpoint_simulator.shapes.base import Piece, Shape, Work, merge

_HANG_POLL_SECONDS = 0.02
#: Chunks in one write. Other streams have their turn after it.
_AT_ONCE = 64
_NEVER = float("inf")


class Parts(NamedTuple):
    """The pieces of an answer that a client sees, and the number of gaps before each, or None if each has one.

    Tokens that are held back, such as those of a tool call, take their time. `rest` is the number of gaps at the end.
    """

    pieces: Sequence[Piece]
    gaps: Sequence[int] | None = None
    rest: int = 0


class Script(NamedTuple):
    """Plan of a stream: its parts, its times and its fault. `hangs` returns whether the simulator hangs now."""

    parts: Parts
    pace: Pace
    injected: Injected | None
    hangs: Callable[[], bool]


class Stream:
    """An answer that is being sent, or if the client wants it whole, that is being waited for."""

    def __init__(self, exchange: Exchange, work: Work, shape: Shape, script: Script, timers: Timers) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        self._work = work
        self._shape = shape
        self._script = script
        self._timers = timers
        self._pieces, self._gaps, self._rest = script.parts
        self._next_gap = script.pace.gap
        self._count = len(self._pieces)
        self._index = 0
        self._due = 0.0
        injected = script.injected
        self._fault_at = injected.after if injected is not None else -1
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def run(self, ttft: float) -> bool:
        """Send all chunks. Returns False if a fault is due before the end."""
        gaps = self._gaps[0] if self._gaps else self._rest
        # The first gap is the time to first token.
        self._due = time.monotonic() + ttft + self._sum(gaps - 1)
        self._timers.at(self._due, self._step)
        return await self._done

    def _step(self, due: float) -> None:
        if self._done.done():
            return
        if self._script.hangs():
            self._timers.at(time.monotonic() + _HANG_POLL_SECONDS, self._step)
            return
        now = time.monotonic()
        if not self._send_due(due, now):
            # The rest follows when the client has read, and then from that time.
            self._connection.on_drained = self._resume
        elif not self._done.done() and self._due != _NEVER:
            self._timers.at(self._due, self._step)

    def _resume(self) -> None:
        self._connection.on_drained = None
        self._timers.at(max(self._due, time.monotonic()), self._step)

    def _send_due(self, due: float, now: float) -> bool:
        """Send what is due, and compute when the next chunk is. Returns False if the client reads too slowly."""
        piece_of, work, index = self._shape.piece, self._work, self._index
        framed, is_streamed = self._exchange.framed, work.stream
        data = b""
        last = index + _AT_ONCE
        while due <= now and index < last and not self._done.done():
            if index == self._fault_at and self._is_cut(due):
                break
            if due < self._due:
                # A stall has begun.
                break
            if index == self._count:
                self._done.set_result(True)
                break
            if is_streamed:
                data += framed(piece_of(work, self._pieces[index]))
            index += 1
            due = self._due = due + self._gap_after(index)
        self._index = index
        if not data:
            return True
        work.entry.sent = index
        return self._exchange.send(data)

    def _is_cut(self, due: float) -> bool:
        """Begin the fault. Returns False if the answer continues."""
        injected = self._script.injected
        self._fault_at = -1
        if injected is not None and injected.fault is Fault.STALL:
            self._due = due + injected.rule.seconds
            return False
        if injected is not None and injected.fault is Fault.HANG:
            self._due = _NEVER
            return False
        self._done.set_result(False)
        return True

    def _gap_after(self, index: int) -> float:
        """Return the time from the chunk before a piece, or before the end, to it."""
        if index == self._count:
            return self._sum(self._rest)
        return self._next_gap() if self._gaps is None else self._sum(self._gaps[index])

    def _sum(self, gaps: int) -> float:
        return sum(self._next_gap() for _ in range(gaps))


def parts_of(work: Work, size: int) -> Parts:
    """Return the parts of an answer, with up to `size` tokens in each."""
    tokens = work.answer.tokens
    merged = tokens if size == 1 else [merge(tokens[first : first + size]) for first in range(0, len(tokens), size)]
    if not work.answer.is_held_back:
        return Parts(merged)
    pieces: list[Piece] = []
    gaps: list[int] = []
    rest = 0
    for piece in merged:
        rest += 1
        if piece.text or piece.thinking or piece.tool_calls:
            pieces.append(piece)
            gaps.append(rest)
            rest = 0
    return Parts(pieces, gaps, rest)
