"""Histories for the charts: up to an hour from the sidecars, up to seven days from Prometheus.

The last hour of the sidecars is finer than what Prometheus scrapes, so it is preferred while it covers the range. If
Prometheus does not answer, the last hour is shown instead, and the history has a message.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable

import aiohttp

from llmendpoint_dashboard.contract import History, HistorySource
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.prometheus import Prometheus, PrometheusError
from llmendpoint_dashboard.sources.ring import RING_SECONDS, SLOT_SECONDS, Ring, Selection

log = logging.getLogger(__name__)

#: Length and step of each range in seconds. The steps from the sidecars are multiples of a slot.
RANGES = {"15m": (900, 5), "1h": (3600, 15), "6h": (21600, 60), "24h": (86400, 300), "7d": (604800, 1800)}
#: Step with which Prometheus is asked for the short ranges, because it usually scrapes every 15 s or 30 s.
_MIN_PROMETHEUS_STEP = 15
#: Histories that are kept for a short time, for browsers that ask for the same one.
_MAX_KEPT = 64
_KEPT_SECONDS = 15
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
        now = self._wall()
        covers = seconds <= RING_SECONDS and self._ring.begins_before(now - seconds + 2 * SLOT_SECONDS)
        if self._prometheus is None or covers:
            message = "" if seconds <= RING_SECONDS else "Without Prometheus, only the last hour is known."
            return self._of_sidecars(name, min(seconds, RING_SECONDS), selection, message)
        step = max(step, _MIN_PROMETHEUS_STEP)
        times = times_of(now, seconds, step)
        try:
            series = await self._prometheus.series(session, times, step, selection)
        except PrometheusError as error:
            message = f"Prometheus at {self._prometheus.url} cannot be used: {error}."
            log.warning("%s", message)
            self._about.update(prometheus_message=message)
            shown = f"{message} The last hour of the sidecars is shown instead."
            return self._of_sidecars(name, min(seconds, RING_SECONDS), selection, shown)
        self._about.update(prometheus_message="")
        return History(range=name, step=step, source=HistorySource.PROMETHEUS, times=times, series=series)

    def _of_sidecars(self, name: str, seconds: float, selection: Selection, message: str) -> History:
        step = min(RANGES[name][1], RANGES["1h"][1])
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
    """Return the multiples of `step` in the last `seconds`, so that two requests have the same times."""
    last = math.floor(now / step)
    count = int(seconds // step)
    return [float((last - count + 1 + place) * step) for place in range(count)]
