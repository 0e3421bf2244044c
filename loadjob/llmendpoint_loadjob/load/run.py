"""Sends requests in a closed or open loop until the duration is over, and collects the samples.

A run that is stopped ends immediately: requests in flight are abandoned and do not count, because their responses can
take minutes, and whoever deletes a pod or presses Ctrl-C does not wait for them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from llmendpoint_common.contracts.loadrun import DEFAULT_CONCURRENCY, Arrivals, Progress, RunDocument
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_loadjob.client.connection import Client
from llmendpoint_loadjob.client.requests import RequestWriter, parse_target
from llmendpoint_loadjob.dataset.questions import Question
from llmendpoint_loadjob.load.arrivals import arrival_times
from llmendpoint_loadjob.result.timings import Outcome, Sample

_LAG_INTERVAL = 0.01
_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")


class LoadRun:
    """Executes a run document. `run` returns when all requests have ended, or immediately after `stop`."""

    def __init__(
        self,
        document: RunDocument,
        questions: Iterator[Question],
        api_key: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        target = parse_target(document.target.url)
        self._load = document.load
        self._end = self._load.warmup_seconds + self._load.duration_seconds
        self._questions = questions
        self._clock = clock
        self._writer = RequestWriter(target, document, api_key)
        self._client = Client(target, document.target.api, clock, document.request.timeout_seconds)
        self._begin = 0.0
        self._started = 0
        self._finished = 0
        self._errors = 0
        self._tokens = 0
        self._ttft = Histogram()
        self._stopped = asyncio.Event()
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Send the load, wait for every response, and return the measurements, which are partial after `stop`."""
        throttled = _throttled_seconds()
        self._begin = self._clock()
        sending = asyncio.create_task(self._send())
        stopped = asyncio.create_task(self._stopped.wait())
        tasks = (sending, stopped, asyncio.create_task(self._watch_lag()))
        try:
            await asyncio.wait((sending, stopped), return_when=asyncio.FIRST_COMPLETED)
            self.outcome.interrupted = not sending.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client.close()
        if not self.outcome.interrupted:
            sending.result()
        self.outcome.duration = max(1e-9, self._clock() - self._begin - self._load.warmup_seconds)
        self.outcome.throttled_seconds = _throttled_seconds() - throttled
        return self.outcome

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
            await self._ask(next(self._questions), self._clock())

    async def _open_loop(self, rate: float) -> None:
        times = arrival_times(self._load.arrivals or Arrivals.POISSON, rate, self._load.seed)
        async with asyncio.TaskGroup() as group:
            for offset in islice(times, self._load.max_requests):
                if offset >= self._end:
                    break
                due = self._begin + offset
                await asyncio.sleep(due - self._clock())
                group.create_task(self._ask(next(self._questions), due))

    def _over(self, now: float) -> bool:
        if now - self._begin >= self._end:
            return True
        return self._load.max_requests is not None and self._started >= self._load.max_requests

    async def _ask(self, question: Question, due: float) -> None:
        self._started += 1
        sample = Sample(uuid.uuid4().hex, question.id, question.category, scheduled=due)
        await self._client.send(self._writer.write(question, sample.request_id), sample)
        self._count(sample)

    def _count(self, sample: Sample) -> None:
        self._finished += 1
        self._errors += sample.error is not None
        self._tokens += sample.output_tokens
        if sample.ttft is not None:
            self._ttft.record(sample.ttft)
        if sample.scheduled - self._begin < self._load.warmup_seconds:
            return
        outcome = self.outcome
        outcome.samples.append(sample)
        outcome.offered += 1
        # If a request was due before the end of the load but sent later, the load generator was too slow.
        outcome.sent += sample.sent - self._begin <= self._end

    async def _watch_lag(self) -> None:
        while True:
            before = self._clock()
            await asyncio.sleep(_LAG_INTERVAL)
            self.outcome.lag.record(self._clock() - before - _LAG_INTERVAL)


def _throttled_seconds() -> float:
    """Return the time for which the CPU limit has throttled this cgroup (cgroup v2), or 0 if it is unknown."""
    try:
        fields = dict(line.split() for line in _CPU_STAT.read_text().splitlines())
        return int(fields.get("throttled_usec", 0)) / 1e6
    except (OSError, ValueError):
        return 0.0
