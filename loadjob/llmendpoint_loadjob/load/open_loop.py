"""The open loop: requests are sent when they are due, regardless of response times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.schedule import Due, Schedule, Slice
from llmendpoint_loadjob.load.sender import Sender, Turn
from llmendpoint_loadjob.load.timer import Timer
from llmendpoint_loadjob.load.window import Crew, Window
from llmendpoint_loadjob.result.timings import Sample


class Slots:
    """Slots for requests in flight: those that the run allows, and those that the limit of open files allows.

    `on_blocked` is called for each request that waits because of the limit of open files.
    """

    def __init__(self, wanted: int | None, available: int, on_blocked: Callable[[], None]) -> None:
        self._on_blocked = on_blocked
        self._semaphore = asyncio.Semaphore(min(available, wanted) if wanted is not None else available)
        #: Whether a request that waits for a slot waits because the run says so.
        self.is_wanted = wanted is not None and wanted <= available

    @property
    def is_full(self) -> bool:
        """Whether the next request has to wait."""
        return self._semaphore.locked()

    async def take(self) -> None:
        """Wait for a slot."""
        if self.is_full and not self.is_wanted:
            self._on_blocked()
        await self._semaphore.acquire()

    def free(self) -> None:
        """Give a slot back."""
        self._semaphore.release()


class OpenLoop:
    """Sends what a schedule says. `origin` is the clock's reading at the start of the schedule.

    `on_due` and `on_end` are called with each request of this pod, when it is due and when it has ended.
    """

    def __init__(
        self, sender: Sender, window: Window, timer: Timer, slots: Slots, prompts: Iterator[Prompt], part: Slice
    ) -> None:  # fmt: skip
        self.held = 0
        self.on_due: Callable[[Due, float], None] = lambda due, at: None
        self.on_end: Callable[[Due, Sample], None] = lambda due, sample: None
        self._sender = sender
        self._window = window
        self._timer = timer
        self._slots = slots
        self._prompts = prompts
        self._part = part
        self._current: Turn | None = None
        self._blocked_until = 0.0

    async def run(self, schedule: Schedule, origin: float, crew: Crew) -> None:
        """Send all that is due. If the run is cancelled, `close` takes care of the rest."""
        for due in schedule:
            prompt = next(self._prompts)
            if not self._part.has(due.number):
                continue
            turn = Turn(prompt, origin + due.offset, due.step)
            self._current = turn
            await self._wait(turn.due)
            self.on_due(due, turn.due)
            held = await self._hold(turn.due)
            self._current = None
            crew.start(self._one(due, replace(turn, held=held) if held else turn))

    async def close(self, schedule: Schedule, origin: float) -> None:
        """Count what was due before the end of the load, and could not be sent before the end of the drain."""
        for number, turn in enumerate(self.unsent(schedule, origin, self._window.end)):
            self._fail(turn)
            if number % 500 == 0:
                await asyncio.sleep(0)

    def unsent(self, schedule: Schedule, origin: float, end: float) -> Iterator[Turn]:
        """Yield what was due in this pod before the time `end`, and was not sent until `run` was cancelled."""
        current, self._current = self._current, None
        if current is not None and current.due < end:
            yield current
        for due in schedule:
            if origin + due.offset >= end:
                return
            prompt = next(self._prompts)
            if self._part.has(due.number):
                yield Turn(prompt, origin + due.offset, due.step)

    async def _wait(self, at: float) -> None:
        if self._window.clock() < at:
            await self._timer.until(at)
        else:
            # A load generator that is late catches up, and does not keep the responses waiting meanwhile.
            await asyncio.sleep(0)

    async def _hold(self, due: float) -> float:
        """Wait for a slot, and return for how many seconds the run's own limit has kept the request back."""
        if self._slots.is_full:
            self.held += 1
            try:
                await self._slots.take()
            finally:
                self.held -= 1
            self._blocked_until = self._window.clock()
        else:
            await self._slots.take()
        # A request that was due while an earlier one waited for its slot has waited for slots too.
        return max(0.0, self._blocked_until - due) if self._slots.is_wanted else 0.0

    async def _one(self, due: Due, turn: Turn) -> None:
        try:
            sample, _ = await self._sender.ask(turn)
        finally:
            self._slots.free()
        self.on_end(due, sample)

    def _fail(self, turn: Turn) -> None:
        if self._slots.is_wanted:
            turn = replace(turn, held=max(0.0, self._window.clock() - turn.due))
            self._sender.never_sent(turn, "not sent, because maxInFlight requests were in flight until the end")
        else:
            self._sender.never_sent(turn, "not sent, because the load generator could not send it in time")
