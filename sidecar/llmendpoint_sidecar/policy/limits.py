"""Limits per tenant and process: requests and tokens per minute (token buckets), and concurrent requests.

The tokens of a request are known only when it ends, and never if its client leaves or its response has no usage.
Therefore a request is charged twice: an estimate of its prompt when it is complete, and at its end the difference from
what it has used. A tenant cannot avoid the charge by leaving, or by sending many long prompts at the same moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from llmendpoint_common.contracts.ollama import canonical_name, model_key
from llmendpoint_common.contracts.sidecar import RefusalReason, TenantLimits
from llmendpoint_sidecar.meter.exchange import Spent

_MINUTE = 60.0
#: A bucket is a sum of floating-point numbers. A smaller lack than this is none.
_ROUNDING = 1e-6
#: Retry-After if too many requests run. It is a guess, because the time until one ends is not known.
_CONCURRENT_SECONDS = 1.0
#: English text has about four bytes per token. The tokens of other languages have fewer characters of more bytes.
_BYTES_PER_TOKEN = 4
#: Context length that is assumed for a model that is not in memory. Ollama loads models with 4,096 to 262,144 tokens,
#: depending on the memory of the GPU.
_UNKNOWN_CONTEXT_TOKENS = 32_768


def prompt_estimate(body_bytes: int, context_tokens: int | None) -> int:
    """Return an estimate of the tokens of a prompt, from the size of the decoded request body.

    A model reads at most its context length, which is None if the model is not in memory.
    """
    return min(-(-body_bytes // _BYTES_PER_TOKEN), context_tokens or _UNKNOWN_CONTEXT_TOKENS)


def tokens_used(estimate: int, spent: Spent) -> int:
    """Return the tokens that a request that has ended is charged, given the estimate of its prompt."""
    if not spent.served:
        return 0
    return estimate + spent.generated if spent.counted is None else spent.counted


class Bucket:
    """A token bucket with the capacity of one minute.

    The level can fall below zero, because the tokens of a request are known only after it was admitted.
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
        lack = amount - self._level
        return lack * _MINUTE / self._per_minute if lack > _ROUNDING else 0.0

    def spend(self, amount: float) -> None:
        """Take `amount`, even if it is not available."""
        self._level -= amount


class AllowedModels:
    """Models that a tenant may use. Names are compared as Ollama compares them."""

    __slots__ = ("_keys", "_names")

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._keys = frozenset(map(model_key, self._names))

    def allow(self, name: str) -> bool:
        """Return whether a model is one of these."""
        return name in self._names or model_key(name) in self._keys

    def __str__(self) -> str:
        return ", ".join(sorted(map(canonical_name, self._names))) or "none"


class Allowance:
    """Limits of a tenant, and their use. Times are readings of the proxy's clock, in seconds."""

    __slots__ = ("_requests", "_tokens", "counts_tokens", "limits", "models", "running")

    def __init__(self, limits: TenantLimits, now: float) -> None:
        self.limits = limits
        #: Models that the tenant may use, or None if it may use all.
        self.models = None if limits.allowed_models is None else AllowedModels(limits.allowed_models)
        self.running = 0
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        #: Whether tokens are limited.
        self.counts_tokens = self._tokens is not None

    def quota(self, now: float) -> tuple[str, int, RefusalReason] | None:
        """Return a limit that has been reached, the whole seconds until a request can be admitted, and its name.

        If several limits have been reached, the one that takes longest. None if no limit has been reached.
        """
        limits = self.limits
        longest, reached, reason = 0.0, "", RefusalReason.MAX_CONCURRENT
        if limits.max_concurrent is not None and self.running >= limits.max_concurrent:
            longest, reached = _CONCURRENT_SECONDS, f"{limits.max_concurrent} concurrent requests"
        if self._requests is not None and (wait := self._requests.wait(now, 1.0)) > longest:
            longest, reached = wait, f"{limits.requests_per_minute} requests per minute"
            reason = RefusalReason.REQUESTS_PER_MINUTE
        if self._tokens is not None and (wait := self._tokens.wait(now, 1.0)) > longest:
            longest, reached = wait, f"{limits.tokens_per_minute} tokens per minute"
            reason = RefusalReason.TOKENS_PER_MINUTE
        return (reached, retry_after(longest), reason) if reached else None

    def enter(self) -> None:
        """Count the start of a request."""
        self.running += 1
        if self._requests is not None:
            self._requests.spend(1.0)

    def charge(self, tokens: int) -> None:
        """Charge tokens. A negative number is a correction of an estimate."""
        if self._tokens is not None:
            self._tokens.spend(tokens)

    def leave(self) -> None:
        """Count the end of a request."""
        self.running -= 1


def retry_after(seconds: float) -> int:
    """Return whole seconds for a Retry-After header: at least 1, and never less than `seconds`."""
    return max(1, math.ceil(seconds))
