"""A monotonic clock for tests in virtual time."""

from __future__ import annotations


class Clock:
    """A clock that tests advance, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now
