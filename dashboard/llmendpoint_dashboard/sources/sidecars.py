"""All sidecars: polls each, and writes the sections `about` and `overview`, and the tables of models and requests.

Each sidecar has a task of its own, so that one that does not answer delays no other. The more sidecars there are, the
less often each is polled, so that the number of polls per second has a bound. The results of polls are published
together, a short time after the first one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

import aiohttp

from llmendpoint_dashboard.contract import SourceState, TableSection, ValueSection
from llmendpoint_dashboard.settings import SidecarAddress
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.exposition import Gauge, PageReader
from llmendpoint_dashboard.sources.models import model_rows
from llmendpoint_dashboard.sources.requests import RequestTable
from llmendpoint_dashboard.sources.ring import Ring
from llmendpoint_dashboard.sources.sidecar import Reading, Sidecar
from llmendpoint_dashboard.sources.traffic import Rates, overview
from llmendpoint_dashboard.state import Hub, RowWriter

log = logging.getLogger(__name__)

#: Shortest interval between two polls of a sidecar. A change is on the screen within two seconds.
_MIN_INTERVAL_SECONDS = 1.0
#: Polls per second of all sidecars together. Each takes about 1 ms of CPU time.
_MAX_POLLS_PER_SECOND = 100.0
#: Polls at the same time.
_MAX_CONCURRENT = 64
#: Time for which polls are collected before they are published: for few sidecars, and for many of them.
_COLLECT_SECONDS = (0.1, 1.0)
_FEW = 20
#: How often the sections are written although no sidecar answered, because states depend on the time.
_CHECK_SECONDS = 5.0


class Sidecars:
    """The sidecars that are read. `clock` is monotonic, `wall` the Unix time, both in seconds."""

    def __init__(
        self,
        hub: Hub,
        about: AboutWriter,
        ring: Ring,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._about = about
        self._ring = ring
        self._clock = clock
        self._wall = wall
        self._reader = PageReader()
        self._requests = RequestTable(hub)
        self._sidecars: dict[SidecarAddress, Sidecar] = {}
        self._models: dict[SidecarAddress, RowWriter] = {}
        self._tasks: dict[SidecarAddress, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._dirty = asyncio.Event()

    @property
    def all(self) -> Iterable[Sidecar]:
        """The sidecars, in the order of their names."""
        return sorted(self._sidecars.values(), key=lambda sidecar: sidecar.address.name)

    @property
    def interval(self) -> float:
        """Seconds between two polls of one sidecar."""
        return max(_MIN_INTERVAL_SECONDS, len(self._sidecars) / _MAX_POLLS_PER_SECOND)

    def configure(self, addresses: Iterable[SidecarAddress]) -> None:
        """Read these sidecars, and no others. What is known of those that stay is kept."""
        wanted = dict.fromkeys(addresses)
        for gone in self._sidecars.keys() - wanted.keys():
            del self._sidecars[gone]
            self._models.pop(gone).replace(())
            task = self._tasks.pop(gone, None)
            if task is not None:
                task.cancel()
        for address in wanted.keys() - self._sidecars.keys():
            self._sidecars[address] = Sidecar(address, self._reader, self._clock, self._wall)
            self._models[address] = RowWriter(self._hub, TableSection.MODELS)
        self._start_tasks()
        self._dirty.set()

    async def run(self) -> None:
        """Poll and publish until the task is cancelled."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=2), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            self._session = session
            self._start_tasks()
            try:
                while True:
                    await self._wait_for_change()
                    self.publish()
            finally:
                self._session = None
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                self._tasks.clear()

    def accept(self, sidecar: Sidecar, reading: Reading) -> None:
        """Add the result of a poll to the last hour, and to the tables."""
        now = self._wall()
        if reading.increase is not None:
            self._ring.add(reading.increase, now)
        self._requests.add(sidecar.address.name, reading.records)
        self._models[sidecar.address].replace(model_rows(sidecar, now))

    def publish(self) -> None:
        """Write the sections, and note the requests in flight."""
        rates = Rates()
        for sidecar in self._sidecars.values():
            if sidecar.state is not SourceState.DOWN:
                page = sidecar.page
                rates.add(sidecar.window.counts, sidecar.window.length)
                rates.add_in_flight(page.gauge(Gauge.RUNNING), page.gauge(Gauge.WAITING))
        now = self._wall()
        if any(sidecar.state is SourceState.OK for sidecar in self._sidecars.values()):
            self._ring.note_in_flight(now, rates.running, rates.waiting)
        self._hub.set_section(ValueSection.OVERVIEW, overview(rates, now))
        self._about.update(sources=tuple(sidecar.source() for sidecar in self.all))

    def _start_tasks(self) -> None:
        if self._session is None:
            return
        for address, sidecar in self._sidecars.items():
            if address not in self._tasks:
                self._tasks[address] = asyncio.create_task(self._poll_regularly(sidecar, self._session))

    async def _poll_regularly(self, sidecar: Sidecar, session: aiohttp.ClientSession) -> None:
        # Many sidecars are spread over their interval, so that they are not all asked at the same moment.
        if len(self._sidecars) > _FEW:
            await asyncio.sleep(random.random() * self.interval)  # noqa: S311 - not a secret
        due = self._clock()
        while True:
            async with self._slots:
                await self._poll(sidecar, session)
            self._dirty.set()
            due = max(due + self.interval, self._clock() - self.interval)
            await asyncio.sleep(max(0.0, due - self._clock()))

    async def _poll(self, sidecar: Sidecar, session: aiohttp.ClientSession) -> None:
        before = sidecar.problem
        try:
            reading = await sidecar.poll(session)
            if reading is not None:
                self.accept(sidecar, reading)
        except Exception:
            # An unexpected response of one sidecar must not end the polls of the others.
            sidecar.problem = "its answer could not be processed"
            log.exception("the answer of %s could not be processed", sidecar.address.name)
        if sidecar.problem != before:
            log.info("%s: %s", sidecar.address.name, sidecar.problem or "answers")

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._dirty.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_COLLECT_SECONDS[len(self._sidecars) > _FEW])
        self._dirty.clear()
