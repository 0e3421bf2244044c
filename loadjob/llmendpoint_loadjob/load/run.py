"""Sends requests in a closed or open loop until the duration is over, and collects the samples.

A run that is stopped ends immediately: requests in flight are abandoned and do not count, because their responses can
take minutes, and whoever deletes a pod or presses Ctrl-C does not wait for them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path

from llmendpoint_common.contracts.loadrun import DEFAULT_CONCURRENCY, Arrivals, Progress, RunDocument
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.arrivals import arrival_times
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample

_LAG_INTERVAL = 0.01
_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")


class LoadRun:
    """Executes a run document. `run` returns when all requests have ended, or immediately after `stop`."""

    def __init__(
        self,
        document: RunDocument,
        prompts: Iterator[Prompt],
        client: Client,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.perf_counter,
        barrier: Awaitable[object] | None = None,
        slice: tuple[int, int] = (0, 1),  # noqa: A002
        on_sample: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        self._load = document.load
        self._end = self._load.warmup_seconds + self._load.duration_seconds
        self._prompts = prompts
        self._clock = clock
        self._client = client
        self._recorder = recorder
        self._barrier = barrier
        self._on_sample = on_sample
        self._begin = 0.0
        self._started = 0
        self._finished = 0
        self._errors = 0
        self._tokens = 0
        self._ttft = Histogram()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Send the load, and wait for every response, or until `stop`."""
        throttled = _throttled_seconds()
        self._begin = self._clock()
        self._recorder.begin(self._begin, self._begin + self._load.warmup_seconds, self._begin + self._end)
        sending = asyncio.create_task(self._send())
        stopped = asyncio.create_task(self._stopped.wait())
        tasks = (sending, stopped, asyncio.create_task(self._watch_lag()))
        try:
            await asyncio.wait((sending, stopped), return_when=asyncio.FIRST_COMPLETED)
            interrupted = not sending.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client.close()
        if not interrupted:
            sending.result()
        self._recorder.set_throttled(_throttled_seconds() - throttled)
        self._recorder.finish(self._clock(), interrupted=interrupted)

    def stop(self) -> None:
        """End the run immediately. Requests in flight are abandoned."""
        self._stopped.set()

    def progress(self) -> Progress:
        """Return the progress.

        Its percentage is that of the time or that of the maximum of requests, whichever is larger.
        """
        elapsed = self._clock() - self._begin if self._begin else 0.0
        shares = [elapsed / self._end if self._end else 1.0]
        if self._load.max_requests:
            shares.append(self._finished / self._load.max_requests)
        return Progress(
            percent=int(100 * min(1.0, max(shares))),
            requests=self._finished,
            errors=self._errors,
            in_flight=self._client.in_flight,
            output_tokens=self._tokens,
            elapsed_seconds=elapsed,
            ttft_p95_seconds=self._ttft.percentile(95) if self._ttft.count else None,
        )

    async def _send(self) -> None:
        if self._load.rate is not None:
            await self._open_loop(self._load.rate)
        else:
            await self._closed_loop(self._load.concurrency or DEFAULT_CONCURRENCY)

    async def _closed_loop(self, concurrency: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._user())

    async def _user(self) -> None:
        while not self._over(self._clock()):
            await self._ask(next(self._prompts), self._clock())

    async def _open_loop(self, rate: float) -> None:
        times = arrival_times(self._load.arrivals or Arrivals.POISSON, rate, self._load.seed)
        async with asyncio.TaskGroup() as group:
            for offset in islice(times, self._load.max_requests):
                if offset >= self._end:
                    break
                due = self._begin + offset
                await asyncio.sleep(due - self._clock())
                group.create_task(self._ask(next(self._prompts), due))

    def _over(self, now: float) -> bool:
        if now - self._begin >= self._end:
            return True
        return self._load.max_requests is not None and self._started >= self._load.max_requests

    async def _ask(self, prompt: Prompt, due: float) -> None:
        self._started += 1
        sample = Sample(uuid.uuid4().hex, prompt.id, prompt.category, scheduled=due)
        await self._client.send(prompt, sample)
        self._finished += 1
        self._errors += sample.error is not None
        self._tokens += sample.output_tokens
        if sample.ttft is not None:
            self._ttft.record(sample.ttft)
        self._recorder.record(sample)
        self._on_sample(sample)

    async def _watch_lag(self) -> None:
        while True:
            before = self._clock()
            await asyncio.sleep(_LAG_INTERVAL)
            self._recorder.add_lag(self._clock() - before - _LAG_INTERVAL)


def _throttled_seconds() -> float:
    """Return the time for which the CPU limit has throttled this cgroup (cgroup v2), or 0 if it is unknown."""
    try:
        fields = dict(line.split() for line in _CPU_STAT.read_text().splitlines())
        return int(fields.get("throttled_usec", 0)) / 1e6
    except (OSError, ValueError):
        return 0.0
