"""When users of a closed loop wait after a failed request, and when a server counts as unreachable."""

from __future__ import annotations

import random

from llmendpoint_loadjob.result.timings import ErrorClass, Sample

#: Pauses after the first, second, … failure in a row, in seconds, doubling up to the maximum.
FIRST_PAUSE = 0.1
MAX_PAUSE = 5.0
#: The longest Retry-After that a user follows, in seconds.
MAX_RETRY_AFTER = 300.0
#: Time without any response after which the run ends, in seconds after the first failure, and the failures for it.
PATIENCE = 3.0
MIN_FAILURES = 2

#: Failures without a response: no server is there, or it is not the one that the URL says.
_NO_CONNECTION = frozenset((ErrorClass.REFUSED, ErrorClass.DNS, ErrorClass.TLS))
_OVERLOADED = frozenset((ErrorClass.TOO_MANY_REQUESTS, ErrorClass.UNAVAILABLE))


class Backoff:
    """Pauses of one user. A server that cannot be reached, or says that it has no capacity, is not hammered.

    Other errors are answers, and the load is what it was asked to be. The pauses are drawn from the upper half of their
    range, so that users that failed together do not return together.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
        self._failures = 0

    def pause_after(self, sample: Sample) -> float:
        """Return how many seconds the user waits before its next request."""
        if sample.error not in _NO_CONNECTION and sample.error not in _OVERLOADED:
            self._failures = 0
            return 0.0
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 16)) * self._random.uniform(0.5, 1.0)
        self._failures += 1
        retry_after = getattr(sample, "retry_after", None)
        return pause if retry_after is None else max(pause, min(retry_after, MAX_RETRY_AFTER))


class Reachability:
    """Whether anything has answered yet. `is_unreachable` becomes true if nothing did for some seconds.

    A server that answers once is never unreachable: if it dies later, its errors are the result of the run. A server
    that accepts connections and is silent is not unreachable either, because it may be loading a model.
    """

    def __init__(self) -> None:
        self._has_answered = False
        self._first_failure: float | None = None
        self._failures = 0

    def note(self, sample: Sample) -> None:
        """Note the end of a request."""
        if self._has_answered:
            return
        if sample.status or not _is_silent(sample):
            self._has_answered = True
            return
        self._failures += 1
        if self._first_failure is None:
            self._first_failure = sample.ended

    def is_unreachable(self, now: float) -> bool:
        """Return whether the run is to end, because nothing answers."""
        if self._has_answered or self._first_failure is None or self._failures < MIN_FAILURES:
            return False
        return now - self._first_failure >= PATIENCE


def _is_silent(sample: Sample) -> bool:
    """Return whether a request failed without any sign of the server."""
    if sample.error in _NO_CONNECTION or sample.error is ErrorClass.RESET:
        return True
    return sample.error is ErrorClass.TIMEOUT and sample.connect is None
