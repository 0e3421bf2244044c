"""Silences of the server: times in which requests were in flight, and nothing of any response arrived.

A user of a closed loop sends nothing while the server is silent, so a silence is in the latencies of a few requests
only, however long it is. Its length tells how long requests at other times would have waited.

Slow requests are not silences of the server, so two things have to be true:

- At least two requests were in flight. A silence begins with the last content or end of a response before it.
- After it, a second response continues almost immediately. If the server stood still, all responses continue together,
  and requests that happened to be slow at the same time do not.
"""

from __future__ import annotations

from collections.abc import Callable

#: Shortest silence that is passed on, in seconds. Times between tokens are shorter.
MIN_SILENCE = 0.1
_MIN_IN_FLIGHT = 2
#: Time after a silence in which a second response has to continue: a share of the silence, and at least these seconds.
_TOGETHER_SHARE = 0.1
_TOGETHER_SECONDS = 0.05
#: Time for which new content may be kept after the last known content, in seconds.
_HOLD_SECONDS = 0.02


def _ignore(begin: float, end: float) -> None:
    pass


def _settle_nothing() -> None:
    pass


class SilenceWatch:
    """Calls `on_silence` with the begin and the end of each silence, after its end. Times are in seconds.

    A response is identified by any object.

    What arrives before `hold_until` can neither end a silence nor be the second response after one, so it may be kept
    and passed to `heard` later. `settle` is called before a silence is noted, and has to pass on all that was kept.
    """

    __slots__ = ("_begin", "_end", "_first", "_in_flight", "_last", "hold_until", "on_silence", "settle")

    def __init__(self, on_silence: Callable[[float, float], None] = _ignore) -> None:
        self.on_silence = on_silence
        self.settle: Callable[[], None] = _settle_nothing
        self.hold_until = 0.0
        self._in_flight = 0
        #: The last content or end of a response, or the time since which two requests are in flight.
        self._last = 0.0
        #: A silence that has ended, and the response that continued first; None if there is none.
        self._begin = self._end = 0.0
        self._first: object | None = None

    def sent(self, now: float) -> None:
        """Note that a request was sent."""
        self._in_flight += 1
        if self._in_flight == _MIN_IN_FLIGHT:
            self._last = now

    def heard(self, now: float, response: object) -> None:
        """Note that content of a response arrived."""
        if self._first is not None:
            self._look_for_second(now, response)
        if self._is_silence(now):
            self.settle()
            if self._is_silence(now):
                self._begin, self._end, self._first = self._last, now, response
        self._last = max(self._last, now)
        self.hold_until = self._last + _HOLD_SECONDS if self._first is None else 0.0

    def ended(self, now: float, response: object) -> None:
        """Note that a request has ended, whether it was answered or has failed."""
        self.heard(now, response)
        self._in_flight -= 1

    def cut(self) -> None:
        """Note that the load generator ended a request itself, which says nothing about the server."""
        self._in_flight -= 1

    def _is_silence(self, now: float) -> bool:
        return now - self._last >= MIN_SILENCE and self._in_flight >= _MIN_IN_FLIGHT

    def _look_for_second(self, now: float, response: object) -> None:
        if now < self._end:
            # Content that was kept: it arrived before the silence ended.
            return
        limit = max(_TOGETHER_SECONDS, _TOGETHER_SHARE * (self._end - self._begin))
        is_together = now - self._end <= limit
        if is_together and response is self._first:
            return
        if is_together:
            self.on_silence(self._begin, self._end)
        self._first = None
