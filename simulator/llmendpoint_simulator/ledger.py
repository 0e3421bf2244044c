"""The simulator's own count of requests and tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from llmendpoint_common.contracts.sidecar import Operation

_KEPT_ENTRIES = 100_000


class Exactness(msgspec.Struct, gc=False):
    """Times of a request in the known-latency mode, in seconds of the monotonic clock, and the server's own errors.

    - `connection` is the number of the connection, in the order in which they were accepted, and `in_flight` the number
      of requests that had arrived and not ended, this one included.
    - `begun_at`, `first_due_at` and `last_due_at` are scheduled times: the end of the wait, and when the first and the
      last chunk were due. `first_sent_at` and `last_sent_at` are the times after the kernel had taken them.
    - `receive_lag` is an upper bound of how long the event loop had not read requests when it read this one, and so of
      how much earlier than `received_at` the request may have arrived.
    - `send_lag` is the longest delay of a chunk, and `blocked` the number of chunks that the client was too slow for.
    """

    connection: int
    in_flight: int
    receive_lag: float
    begun_at: float | None = None
    first_due_at: float | None = None
    first_sent_at: float | None = None
    last_due_at: float | None = None
    last_sent_at: float | None = None
    send_lag: float = 0.0
    blocked: int = 0


class Entry(msgspec.Struct, gc=False):
    """A request. Times are seconds of the monotonic clock. `sent` is the number of sent chunks with content.

    `received_at` is the time when head and body were complete. `reason` says how the request ended, in more detail than
    `outcome`: stop, length, load, unload, embedded, image, text, cancelled, refused, or the name of an injected fault.
    Only the known-latency mode has `exactness`.
    """

    request_id: str
    model: str
    operation: Operation
    received_at: float
    prompt_tokens: int = 0
    generation_tokens: int = 0
    sent: int = 0
    ended_at: float | None = None
    outcome: str = "running"
    reason: str = ""
    exactness: Exactness | None = None


class Account(msgspec.Struct):
    """Totals of a model and operation. `faulted` counts error responses, with or without an injected fault.

    `reasons` counts the requests that ended by the reason of their entry.
    """

    requests: int = 0
    completed: int = 0
    cancelled: int = 0
    faulted: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    reasons: dict[str, int] = {}


class Ledger:
    """Accounts by `model/operation`, and entries of the last 100,000 requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self.entries: deque[Entry] = deque(maxlen=_KEPT_ENTRIES)

    def open(self, request_id: str, model: str, operation: Operation) -> Entry:
        """Add an entry for a request that has just arrived."""
        entry = Entry(request_id, model, operation, self._clock())
        self.entries.append(entry)
        self._account(entry).requests += 1
        return entry

    def close(self, entry: Entry, outcome: str, reason: str = "") -> None:
        """Record the end of a request: completed, cancelled or faulted. Without a reason, the outcome is the reason.

        Only the tokens of completed requests are counted.
        """
        if entry.ended_at is not None:
            return
        entry.ended_at = self._clock()
        entry.outcome = outcome
        entry.reason = reason or outcome
        account = self._account(entry)
        account.reasons[entry.reason] = account.reasons.get(entry.reason, 0) + 1
        if outcome == "completed":
            account.completed += 1
            account.prompt_tokens += entry.prompt_tokens
            account.generation_tokens += entry.generation_tokens
        elif outcome == "cancelled":
            account.cancelled += 1
        else:
            account.faulted += 1

    def clear(self) -> None:
        """Remove all accounts and entries."""
        self.accounts.clear()
        self.entries.clear()

    def _account(self, entry: Entry) -> Account:
        return self.accounts.setdefault(f"{entry.model}/{entry.operation}", Account())
