"""Histories for the charts: the last hour from the sidecars, and what is older, up to seven days, from Prometheus.

What the dashboard has read from the sidecars itself is finer than what Prometheus scrapes, and includes the first
requests after a start: the first sample of a counter has none before it that rate() could compare it with. So
Prometheus is only asked about the time that the dashboard has not seen. If it does not answer, the last hour of the
sidecars is shown instead, and the history has a message.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

import aiohttp

from llmendpoint_dashboard.contract import History, HistorySource, Series
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.prometheus import Prometheus, PrometheusError
from llmendpoint_dashboard.sources.ring import RING_SECONDS, Ring, Selection

log = logging.getLogger(__name__)

#: Length and step of each range in seconds. The steps from the sidecars are multiples of a slot.
RANGES = {"15m": (900, 5), "1h": (3600, 15), "6h": (21600, 60), "24h": (86400, 300), "7d": (604800, 1800)}
#: Histories that are kept for a short time, for browsers that ask for the same one.
_MAX_KEPT = 64
_KEPT_SECONDS = 15
#: A history ends at most this long ago.
_LONGEST_WAIT_SECONDS = 60
#: Time that the newest slot of the sidecars is given to become complete.
_SETTLE_SECONDS = 2.0


class Histories:
    """Answers requests for histories."""

    def __init__(
        self,
        ring: Ring,
        prometheus: Prometheus | None,
        about: AboutWriter,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring
        self._prometheus = prometheus
        self._about = about
        self._wall = wall
        self._kept: OrderedDict[tuple[str, Selection, float], History] = OrderedDict()
        self._locks: dict[tuple[str, Selection], asyncio.Lock] = {}

    async def read(self, session: aiohttp.ClientSession, name: str, selection: Selection) -> History:
        """Return the history of a range of RANGES. One of several equal requests does the work for all of them."""
        key = (name, selection)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                kept_key = (name, selection, math.floor(self._wall() / min(RANGES[name][1], _KEPT_SECONDS)))
                kept = self._kept.get(kept_key)
                if kept is None:
                    kept = await self._read(session, name, selection)
                    self._kept[kept_key] = kept
                    while len(self._kept) > _MAX_KEPT:
                        self._kept.popitem(last=False)
                return kept
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _read(self, session: aiohttp.ClientSession, name: str, selection: Selection) -> History:
        seconds, step = RANGES[name]
        if self._prometheus is None:
            message = "" if seconds <= RING_SECONDS else "Without Prometheus, only the last hour is known."
            return self._of_sidecars(name, selection, message)
        times = times_of(self._wall() - _SETTLE_SECONDS, seconds, step)
        is_known = [self._ring.knows(time, step) for time in times]
        if all(is_known):
            return self._of_sidecars(name, selection)
        # Prometheus answers for a range without gaps: up to the last time that the sidecars do not cover.
        asked = times[: len(times) - is_known[::-1].index(False)]
        try:
            older = await self._prometheus.series(session, asked, step, selection)
        except PrometheusError as error:
            message = f"Prometheus at {self._prometheus.url} cannot be used: {error}."
            log.warning("%s", message)
            self._about.update(prometheus_message=message)
            return self._of_sidecars(name, selection, f"{message} The last hour of the sidecars is shown instead.")
        self._about.update(prometheus_message="")
        recent = self._ring.series([time for time in times if time > (self._ring.begin or math.inf)], step, selection)
        series, has_older = joined(older, recent, is_known)
        source = HistorySource.PROMETHEUS if has_older else HistorySource.SIDECARS
        return History(range=name, step=step, source=source, times=times, series=series)

    def _of_sidecars(self, name: str, selection: Selection, message: str = "") -> History:
        seconds, step = min(RANGES[name], RANGES["1h"])
        times = times_of(self._wall() - _SETTLE_SECONDS, seconds, step)
        return History(
            range=name,
            step=step,
            source=HistorySource.SIDECARS,
            message=message,
            times=times,
            series=self._ring.series(times, step, selection),
        )


def times_of(now: float, seconds: float, step: float) -> list[float]:
    """Return the times of the last `seconds`, `step` seconds apart.

    They end at a multiple of `step`, so that two requests have the same times. If a step is longer than a minute, they
    end at a full minute: otherwise the last half hour could be missing, and with it all of a traffic that began in it.
    """
    grid = min(step, _LONGEST_WAIT_SECONDS)
    last = math.floor(now / grid) * grid
    count = int(seconds // step)
    return [float(last - (count - 1 - place) * step) for place in range(count)]


def joined(older: Iterable[Series], recent: Iterable[Series], is_known: Sequence[bool]) -> tuple[list[Series], bool]:
    """Return series with a value for each element of `is_known`, and whether a value of `older` is among them.

    `older` are the series of Prometheus, from the first time on, and `recent` those of the sidecars, up to the last
    one. `is_known` is whether the sidecars know all of the step before a time.
    """
    first = {(series.name, series.outcome): series.values for series in older}
    second = {(series.name, series.outcome): series.values for series in recent}
    series, has_older = [], False
    for name, outcome in {**first, **second}:
        before, after = first.get((name, outcome), []), second.get((name, outcome), [])
        choices = [*_choices(before, [*[None] * (len(is_known) - len(after)), *after], is_known)]
        has_older |= any(is_older and value is not None for value, is_older in choices)
        series.append(Series(name=name, outcome=outcome, values=[value for value, _ in choices]))
    return series, has_older


def _choices(
    older: Sequence[float | None], recent: Sequence[float | None], is_known: Sequence[bool]
) -> Iterator[tuple[float | None, bool]]:
    """Yield the values of a series, and whether they are those of `older`, which may end earlier.

    Of a step that the sidecars know in part, `recent` has what they know. That is taken if Prometheus has no value for
    the step before: then it began no earlier, and misses the first increase.
    """
    for place, is_complete in enumerate(is_known):
        value = older[place] if place < len(older) else None
        begins = place > 0 and older[place - 1 : place] == [None]
        if is_complete or (recent[place] is not None and (value is None or begins)):
            yield recent[place], False
        else:
            yield value, True
