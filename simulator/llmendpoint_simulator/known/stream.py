"""One answer of the known-latency server, sent chunk by chunk at scheduled times."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from llmendpoint_simulator.known.admission import Admission
from llmendpoint_simulator.ledger import Entry, Exactness, Ledger
from llmendpoint_simulator.serving.connection import Connection
from llmendpoint_simulator.serving.timers import Timers


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The bytes of an answer, and when they are due: the first part after `ttft` seconds, each other one `gap` later.

    `last` returns the bytes that follow the last part in the same write, from the time between arrival and end.
    """

    parts: tuple[bytes, ...]
    last: Callable[[float], bytes]
    ttft: float
    gap: float
    tokens: int


class Line(msgspec.Struct, frozen=True):
    """What all answers of a server share."""

    timers: Timers
    admission: Admission
    ledger: Ledger


class Stream:
    """An answer. It waits for its turn, sends each part at its time, and records how exact the times were."""

    def __init__(self, connection: Connection, entry: Entry, plan: Plan, line: Line) -> None:
        self.received_at = entry.received_at
        self._connection = connection
        self._entry = entry
        self._exactness = entry.exactness or Exactness(connection.number, 1, 0.0)
        self._plan = plan
        self._line = line
        self._index = 0
        self._is_lost = False
        connection.on_lost = self._on_lost

    def begin(self, when: float) -> None:
        """Begin the answer at a scheduled time."""
        plan, exactness = self._plan, self._exactness
        exactness.begun_at = when
        self._first_due = exactness.first_due_at = when + plan.ttft
        exactness.last_due_at = self._first_due + (len(plan.parts) - 1) * plan.gap
        self._line.timers.at(self._first_due, self._step)

    def _step(self, due: float) -> None:
        if self._is_lost:
            return
        plan, exactness, index = self._plan, self._exactness, self._index
        is_last = index == len(plan.parts) - 1
        data = plan.parts[index]
        if is_last:
            data += plan.last(due - self.received_at)
        if not self._connection.send(data):
            exactness.blocked += 1
            if not self._connection.is_open:
                return
        now = time.monotonic()
        if not index:
            exactness.first_sent_at = now
        exactness.send_lag = max(exactness.send_lag, now - due)
        self._index = self._entry.sent = index + 1
        if is_last:
            self._end(due, now)
        else:
            self._line.timers.at(self._first_due + (index + 1) * plan.gap, self._step)

    def _end(self, due: float, now: float) -> None:
        self._exactness.last_sent_at = now
        self._entry.generation_tokens = self._plan.tokens
        self._line.ledger.close(self._entry, "completed")
        self._line.admission.release(due)
        self._connection.end()

    def _on_lost(self) -> None:
        self._is_lost = True
        self._line.ledger.close(self._entry, "cancelled")
        if not self._line.admission.leave(self):
            self._line.admission.release(time.monotonic())
