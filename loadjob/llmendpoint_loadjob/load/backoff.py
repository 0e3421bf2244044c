"""Pauses of closed-loop users after failures, and whether the target can be reached at all."""

from __future__ import annotations

import random

from llmendpoint_loadjob.result.timings import ErrorClass, Sample

#: The longest pause that a user makes because of Retry-After, in seconds.
MAX_RETRY_AFTER = 300.0
#: Share of a pause by which users that failed together return at different times.
SPREAD = 0.2
#: Time without any response after which the run ends, in seconds after the first failure, and the failures for it.
PATIENCE = 3.0
MIN_FAILURES = 2

#: Failures without a response: no server is there, or it is not the one that the URL says.
_SILENT = frozenset((ErrorClass.REFUSED, ErrorClass.DNS, ErrorClass.TLS, ErrorClass.RESET))


def pause_after(sample: Sample, source: random.Random) -> float:
    """Return for how many seconds a user waits after a request: as the client says, and up to 20 % more."""
    if sample.error is None or not sample.retry_after:
        return 0.0
    return min(sample.retry_after, MAX_RETRY_AFTER) * (1 + SPREAD * source.random())


class Reachability:
    """Whether anything has answered yet. `is_unreachable` becomes true if nothing did for some seconds.

    A server that has answered once is never unreachable: if it dies later, its errors are the result of the run. A
    server that accepts connections and is silent is not unreachable either, because it may be loading a model.
    """

    def __init__(self) -> None:
        self.has_answered = False
        #: Whether a connection was opened before the start.
        self.has_connected = False
        self._first_failure: float | None = None
        self._failures = 0

    def note(self, sample: Sample) -> None:
        """Note the end of a request."""
        if self.has_answered:
            return
        if sample.status or not self._is_silent(sample):
            self.has_answered = sample.error is not ErrorClass.UNFINISHED
            return
        self._failures += 1
        if self._first_failure is None:
            self._first_failure = sample.ended

    def is_unreachable(self, now: float) -> bool:
        """Return whether the run is to end, because nothing answers."""
        if self.has_answered or self._first_failure is None or self._failures < MIN_FAILURES:
            return False
        return now - self._first_failure >= PATIENCE

    def _is_silent(self, sample: Sample) -> bool:
        """Return whether a request failed without any sign of the server."""
        if sample.error in _SILENT:
            return True
        # A timeout counts only if no connection could be opened: then there is not even a TCP handshake.
        return sample.error is ErrorClass.TIMEOUT and sample.connect is None and not self.has_connected
