"""What was served, counted where it was served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

_KEPT_ENTRIES = 20_000


class Entry(msgspec.Struct):
    """One request. Times are the server's monotonic clock in seconds; `sent` counts pieces of content sent."""

    request_id: str
    model: str
    operation: str
    received_at: float
    prompt_tokens: int = 0
    generation_tokens: int = 0
    sent: int = 0
    ended_at: float | None = None
    outcome: str = "running"


class Account(msgspec.Struct):
    """Sums for one model and operation."""

    requests: int = 0
    completed: int = 0
    cancelled: int = 0
    faulted: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0


class Ledger:
    """Accounts by `model/operation`, and the latest requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self.entries: deque[Entry] = deque(maxlen=_KEPT_ENTRIES)

    def open(self, request_id: str, model: str, operation: str) -> Entry:
        """Write down a request that has just arrived."""
        entry = Entry(request_id, model, operation, self._clock())
        self.entries.append(entry)
        self._account(entry).requests += 1
        return entry

    def close(self, entry: Entry, outcome: str) -> None:
        """Write down how it ended: completed, cancelled or faulted. Tokens count only where the answer was whole."""
        if entry.ended_at is not None:
            return
        entry.ended_at = self._clock()
        entry.outcome = outcome
        account = self._account(entry)
        if outcome == "completed":
            account.completed += 1
            account.prompt_tokens += entry.prompt_tokens
            account.generation_tokens += entry.generation_tokens
        elif outcome == "cancelled":
            account.cancelled += 1
        else:
            account.faulted += 1

    def clear(self) -> None:
        """Begin anew."""
        self.accounts.clear()
        self.entries.clear()

    def _account(self, entry: Entry) -> Account:
        return self.accounts.setdefault(f"{entry.model}/{entry.operation}", Account())
