"""A client of the load generator whose server is a queue in virtual time, with a known capacity."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.result.timings import Sample


@dataclass
class Received:
    """A request as the server saw it."""

    at: float
    prompt: str
    history: tuple[tuple[str, str], ...]
    messages: tuple[tuple[str, str], ...]


@dataclass
class VirtualServer:
    """`servers` requests are served at the same time, each in `service()` seconds; the others wait in their order.

    The first token comes with a share of 10 % of the service time. `fail` returns the error of a request, or None.
    """

    clock: Callable[[], float]
    servers: int = 1_000_000
    service: Callable[[], float] = lambda: 0.5
    fail: Callable[[Received], ErrorClass | None] = lambda received: None
    retry_after: float | None = None
    received: list[Received] = field(default_factory=list)
    in_flight: int = 0
    opened: int = 0
    #: Output tokens of each response.
    tokens: int = 2
    is_reachable: bool = True
    concurrency: list[tuple[float, int]] = field(default_factory=list)
    _free: list[float] = field(default_factory=list)
    _waits: set[asyncio.Future[None]] = field(default_factory=set)

    async def send(
        self, prompt: Prompt, sample: Sample, history: Sequence[tuple[str, str]] = (), *, keep_text: bool = False
    ) -> str | None:
        """Serve a request."""
        sample.sent = now = self.clock()
        received = Received(now, prompt.id, tuple(history), prompt.messages)
        self.received.append(received)
        self._count(1)
        try:
            error = ErrorClass.REFUSED if not self.is_reachable else self.fail(received)
            if error is None:
                error = await self._serve(sample, now)
        finally:
            self._count(-1)
        sample.ended = self.clock()
        sample.error = error
        sample.retry_after = self.retry_after if error is not None else None
        if error is ErrorClass.UNFINISHED:
            sample.first = None
        elif error is None:
            sample.status = 200
            sample.output_tokens, sample.has_usage, sample.is_spread = self.tokens, True, True
            return f"answer to {prompt.id}"
        return None

    async def open(self, count: int) -> list[float]:
        """Open connections."""
        if not self.is_reachable:
            return []
        self.opened += count
        return [0.0] * count

    def abort(self) -> None:
        """End all requests as unfinished."""
        for wait in list(self._waits):
            if not wait.done():
                wait.set_result(None)

    def close(self) -> None:
        """Do nothing."""

    async def _serve(self, sample: Sample, now: float) -> ErrorClass | None:
        seconds = self.service()
        begin = now
        if len(self._free) == self.servers:
            begin = max(now, heapq.heappop(self._free))
        heapq.heappush(self._free, begin + seconds)
        sample.first, sample.last = begin + 0.1 * seconds, begin + seconds
        wait: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits.add(wait)
        try:
            async with asyncio.timeout(begin + seconds - now):
                await wait
        except TimeoutError:
            return None
        finally:
            self._waits.discard(wait)
        return ErrorClass.UNFINISHED

    def _count(self, change: int) -> None:
        self.in_flight += change
        self.concurrency.append((self.clock(), self.in_flight))
