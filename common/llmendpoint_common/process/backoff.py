"""Delays between attempts that fail."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first` to `last` seconds, with 20 % of jitter, so that clients do not act in step."""

    def __init__(self, first: float, last: float) -> None:
        self._first = first
        self._last = last
        self._attempts = 0

    def reset(self) -> None:
        """Start with the first delay again."""
        self._attempts = 0

    def next(self, at_least: float = 0.0) -> float:
        """Return the number of seconds until the next attempt, which is at least `at_least`."""
        delay = min(self._last, self._first * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        return max(at_least, delay * random.uniform(0.8, 1.2))  # noqa: S311 - not for security
