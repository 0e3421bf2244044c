"""Limits per tenant and process: requests and tokens per minute (token buckets), and concurrent requests."""

from __future__ import annotations

import math

from llmendpoint_common.contracts.sidecar import TenantLimits

_MINUTE = 60.0
_MAX_RETRY_SECONDS = 60


class Bucket:
    """A token bucket with the capacity of one minute.

    The level can fall below zero, because the tokens of a request are known only when it ends.
    """

    __slots__ = ("_level", "_per_minute", "_then")

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._level = float(per_minute)
        self._then = now

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until `amount` is available, or 0 if it is available now."""
        self._level = min(self._per_minute, self._level + (now - self._then) * self._per_minute / _MINUTE)
        self._then = now
        return max(0.0, (amount - self._level) * _MINUTE / self._per_minute)

    def spend(self, amount: float) -> None:
        """Take `amount`, even if it is not available."""
        self._level -= amount


class Allowance:
    """Limits of a tenant, and their use. Times are readings of the proxy's clock, in seconds."""

    __slots__ = ("_requests", "_tokens", "limits", "models", "running")

    def __init__(self, limits: TenantLimits, models: frozenset[str] | None, now: float) -> None:
        self.limits = limits
        self.models = models
        self.running = 0
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited."""
        return self._tokens is not None

    def quota(self, now: float) -> tuple[str, int] | None:
        """Return a limit that has been reached and the seconds until the next attempt.

        None if no limit has been reached.
        """
        if self._requests is not None and (wait := self._requests.wait(now, 1.0)) > 0:
            return f"{self.limits.requests_per_minute} requests per minute", retry_after(wait)
        if self._tokens is not None and (wait := self._tokens.wait(now, 1.0)) > 0:
            return f"{self.limits.tokens_per_minute} tokens per minute", retry_after(wait)
        if self.limits.max_concurrent is not None and self.running >= self.limits.max_concurrent:
            return f"{self.limits.max_concurrent} concurrent requests", 1
        return None

    def enter(self) -> None:
        """Count the start of a request."""
        self.running += 1
        if self._requests is not None:
            self._requests.spend(1.0)

    def leave(self, tokens: int) -> None:
        """Count the end of a request, and its tokens."""
        self.running -= 1
        if self._tokens is not None:
            self._tokens.spend(tokens)


def retry_after(seconds: float) -> int:
    """Return whole seconds for a Retry-After header, from 1 to 60."""
    return min(_MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))
