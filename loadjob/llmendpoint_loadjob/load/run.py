"""A load run: it opens connections, waits for its start, sends the load, and waits for the last responses.

    prepare     the limit of open files is checked, and connections are opened
    barrier     if several pods run one test, all of them start at the same time
    load        warm-up, then the measured window; which requests are sent when is up to the shape
    drain       requests in flight at the end of the load get `drainTimeoutSeconds`, and then fail as unfinished

A run that is stopped ends immediately: requests in flight are abandoned and do not count, because their responses can
take minutes, and whoever deletes a pod or presses Ctrl-C does not wait for them. No request is kept: each one is passed
to the recorder and to `on_sample` when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import KW_ONLY, dataclass, field

from llmendpoint_common.contracts.loadrun import Progress, RunDocument, Saturation
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.backoff import Reachability
from llmendpoint_loadjob.load.closed_loop import ClosedLoop
from llmendpoint_loadjob.load.context import Context, Recording
from llmendpoint_loadjob.load.curve import LoadCurve, curve_of, names_of_stages
from llmendpoint_loadjob.load.health import GarbageWatch, LagWatch, rare_collections, short_waits, throttled_seconds
from llmendpoint_loadjob.load.limits import available_connections, check_connections
from llmendpoint_loadjob.load.open_loop import OpenLoop, Slots
from llmendpoint_loadjob.load.progress import Course
from llmendpoint_loadjob.load.saturation_watch import SaturationWatch
from llmendpoint_loadjob.load.schedule import Schedule, Slice, schedule_of, schedule_of_trace, sliced
from llmendpoint_loadjob.load.sender import Sender, SendingClient
from llmendpoint_loadjob.load.sweep import Sweep
from llmendpoint_loadjob.load.timer import LoopTimer, timer_of
from llmendpoint_loadjob.load.window import Crew, Ending, Window, wait_awake
from llmendpoint_loadjob.result.timings import Sample

log = logging.getLogger(__name__)

#: Time for opening connections before the start, in seconds. What is not open then is opened by the requests.
OPEN_SECONDS = 10.0
OPEN_SECONDS_EACH = 0.05
#: Connections that are opened before an open loop starts: those that it needs if responses take two seconds.
OPENED_FOR_SECONDS = 2.0
MAX_OPENED = 1000
_WATCH_SECONDS = 0.25
#: Attempts to open a connection after which a target that does not even refuse is unreachable.
_PROBES = 3
#: Time for streams to end after they were aborted.
_ABORT_SECONDS = 1.0


def needed_connections(document: RunDocument, part: tuple[int, int]) -> int:
    """Return how many connections a pod of a run needs at least at the same time. `part` is as `LoadRun.slice`."""
    return _users(document, Slice(*part)) or _limit_of(document, Slice(*part)) or 1


def check_slice(document: RunDocument, part: tuple[int, int]) -> None:
    """Raise ValueError if several pods cannot share a run. `part` is as `LoadRun.slice`."""
    pods, limit = Slice(*part).pods, document.load.max_in_flight
    if document.load.sweep is not None and pods > 1:
        raise ValueError("a sweep runs in one pod, because each rate depends on how the one before went")
    if limit is not None and limit < pods:
        raise ValueError(
            f"maxInFlight ({limit}) must be at least the number of parts of the run ({pods}), so that each can have a "
            "request in flight"
        )


def _limit_of(document: RunDocument, part: Slice) -> int | None:
    """Return the maximum number of requests in flight of a pod in an open loop, or None if it is not limited."""
    limit = document.load.max_in_flight
    return None if limit is None else part.share_of(limit)


def _users(document: RunDocument, part: Slice) -> int:
    """Return the users of a closed loop that a pod has at most, or 0 if the load is not a closed loop."""
    is_closed = not document.load.is_open and document.trace is None
    return part.share_of(round(curve_of(document.load).peak)) if is_closed else 0


def _ignore(sample: Sample) -> None:
    """Do nothing."""


@dataclass
class LoadRun:
    """Executes a run document.

    `slice` is the pod and the number of pods. `on_sample` is called with each request when it has ended, those of the
    warm-up included. `replay` has the requests of a trace, with their offsets in seconds, and then replaces `prompts`.
    `ending` says why the load ended.
    """

    document: RunDocument
    prompts: Iterator[Prompt]
    client: SendingClient
    recorder: Recording
    _: KW_ONLY
    clock: Callable[[], float] = time.perf_counter
    barrier: Awaitable[object] | None = None
    slice: tuple[int, int] = (0, 1)
    on_sample: Callable[[Sample], None] = _ignore
    replay: Iterable[tuple[float, Prompt]] | None = None
    timer: LoopTimer | None = None
    #: Set when connections are open, and the run waits only for the barrier.
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        load = self.document.load
        self._part = Slice(*self.slice)
        check_slice(self.document, self.slice)
        self._window = Window(self.clock, load.warmup_seconds)
        self._crew = Crew(lambda: self._window.close(Ending.STOPPED))
        self._sender = Sender(self.client, self._window, self._record)
        self._reachability = Reachability()
        self._curve = LoadCurve([]) if load.sweep is not None or self._is_trace else curve_of(load)
        self._stopped = asyncio.Event()
        self._course = Course(self.document, self._curve, self._window, self.client, self._sender, self._part)
        self._is_finished = False

    @property
    def has_begun(self) -> bool:
        """Whether the load has begun: connections are open, and every pod of the run is ready."""
        return self._window.has_begun

    @property
    def ending(self) -> Ending:
        """Why the load ended."""
        return Ending.STOPPED if self._stopped.is_set() else self._window.ending

    async def run(self) -> None:
        """Send the load and wait for every response. Raises FileLimitError if the process may open too few files.

        Call `recorder.finish` again for a later state: it has been called when this method returns.
        """
        main = asyncio.create_task(self._main())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((main, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_finished = True
            await self._end(main, stopped)
        if self._window.has_begun:
            self.recorder.finish(self.clock(), interrupted=self._stopped.is_set())
        if not self._stopped.is_set():
            main.result()

    def stop(self) -> None:
        """End the run immediately. Requests in flight are abandoned."""
        if not self._stopped.is_set() and not self._is_finished:
            self._course.stop()
            self._stopped.set()
            self._sender.is_dropping = True
            # Before the abort: otherwise users would send their next request.
            self._window.close(Ending.STOPPED)
            self.client.abort()

    def progress(self) -> Progress:
        """Return the progress."""
        return self._course.progress()

    # ---- the course of the run

    async def _main(self) -> None:
        context = self._course.context = await self._prepare()
        if self.barrier is not None:
            self._course.awaiting = "waiting for the start signal"
            self.ready.set()
            await self.barrier
        self.ready.set()
        self._course.awaiting = ""
        with ExitStack() as stack:
            stack.enter_context(rare_collections())
            stack.enter_context(short_waits())
            garbage = stack.enter_context(GarbageWatch())
            throttled = throttled_seconds()
            self._window.start()
            # The pauses of users end with the load, which a closed loop knows from its start.
            end = math.inf if self.document.load.is_open or self._is_trace else self._window.begin + self._curve.end
            self.recorder.begin(self._window.begin, self._window.measured_from, end)
            self.recorder.set_users(_users(self.document, self._part))
            lag = LagWatch(self.clock, self.recorder)
            self.recorder.notice_stop = lag.notice
            watches = [asyncio.create_task(task) for task in (
                lag.run(), self._watch(throttled), self._probe())]  # fmt: skip
            try:
                await self._load(context)
            finally:
                self.recorder.set_throttled(throttled_seconds() - throttled)
                await _cancel(*watches)
                log.debug(
                    "garbage collection took %.3f s, at most %.1f ms at a time", garbage.total, 1e3 * garbage.longest
                )

    async def _prepare(self) -> Context:
        available = available_connections()
        users, limit = _users(self.document, self._part), _limit_of(self.document, self._part)
        check_connections(users or limit or 1, available)
        peak = self._curve.peak / self._part.pods
        opened = users or min(limit or MAX_OPENED, max(1, math.ceil(OPENED_FOR_SECONDS * peak)), MAX_OPENED)
        await self._open_connections(min(opened, available))
        timer = self.timer or timer_of(self.clock)
        slots = Slots(limit, available, self.recorder.add_blocked)
        prompts = sliced(self.prompts, self._part) if users else self.prompts
        return Context(self.document, prompts, self.client, self.recorder, self._sender, self._window, self._crew,
                       timer, self._part, slots)  # fmt: skip

    async def _open_connections(self, count: int) -> None:
        """Open one connection and then the others. Many TLS handshakes may take longer than the first one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                self._reachability.has_connected = bool(await self.client.open(1))
        if self._reachability.has_connected and count > 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(OPEN_SECONDS + OPEN_SECONDS_EACH * count):
                    await self.client.open(count - 1)

    async def _load(self, context: Context) -> None:
        load = self.document.load
        if load.sweep is not None:
            await Sweep(context, load.sweep).run()
            await self._finish_load()
        elif self.document.trace is not None:
            if self.replay is None:
                raise ValueError("the document has a trace, and its requests were not given")
            await self._run_open(context, *schedule_of_trace(load, self.document.trace, self.replay))
        elif load.is_open:
            self._name_stages()
            await self._run_open(context, schedule_of(load, self._curve), context.prompts)
        else:
            self._name_stages()
            await self._run_closed(context)

    async def _run_closed(self, context: Context) -> None:
        loop = self._course.closed = ClosedLoop(
            self.document.load, self._curve, self._part, context.prompts, self._sender, self._window,
            self.recorder.add_idle,
        )  # fmt: skip
        loop.start(self._crew)
        end = self._window.begin + self._curve.end
        if not await self._window.over(end):
            self._window.close(at=end)
        await self._finish_load()

    async def _run_open(self, context: Context, schedule: Schedule, prompts: Iterator[Prompt]) -> None:
        loop = self._course.open = OpenLoop(
            self._sender, self._window, context.timer, context.slots, prompts, self._part
        )
        if not self._is_trace:
            watch = SaturationWatch(self.document.load, self._curve, self._part, self._window,
                                    lambda: self.client.in_flight, self._note_saturation)  # fmt: skip
            loop.on_due, loop.on_end = watch.due, watch.ended
        origin = self._window.begin
        sending = asyncio.create_task(loop.run(schedule, origin, self._crew))
        try:
            await self._until_end(sending, schedule)
            self.recorder.end_load(self._window.end)
            await self._finish_load(sending)
        finally:
            await _cancel(sending)
        await loop.close(schedule, origin)

    async def _until_end(self, sending: asyncio.Task[None], schedule: Schedule) -> None:
        """Wait until the load has ended: as scheduled, or early."""
        window = self._window
        over = asyncio.create_task(window.over())
        try:
            while not window.is_over and not sending.done():
                remaining = window.begin + schedule.end - self.clock()
                if remaining <= 0:
                    break
                timeout = None if remaining == math.inf else remaining
                await asyncio.wait((sending, over), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(over)
        if sending.done():
            sending.result()
        if not await window.over(window.begin + schedule.end):
            window.close(at=window.begin + schedule.end)
        if window.ending is not Ending.COMPLETE:
            sending.cancel()

    async def _finish_load(self, sending: asyncio.Task[None] | None = None) -> None:
        """End the load, and wait for the requests in flight. Those that take too long fail as unfinished."""
        self._window.close()
        self.recorder.end_load(self._window.end)
        seconds = self.document.load.drain_timeout_seconds
        if self._window.ending is Ending.UNREACHABLE:
            seconds = 0.0
        self._course.drain_until = self.clock() + seconds
        if sending is not None:
            seconds = await wait_awake(lambda: () if sending.done() else (sending,), seconds)
            if sending.done() and not sending.cancelled():
                sending.result()
            await _cancel(sending)
            # Tasks that were created just now have to start before they can end as unfinished.
            await asyncio.sleep(0)
        await self._crew.wait(seconds)
        self.client.abort()
        await self._crew.wait(_ABORT_SECONDS)
        await self._crew.cancel()

    async def _end(self, *tasks: asyncio.Task[object]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):
            await self._crew.cancel()
        if self.timer is None and self._course.context is not None:
            self._course.context.timer.close()
        self.client.close()

    # ---- watching

    def _record(self, sample: Sample) -> None:
        self._reachability.note(sample)
        if sample.step < 0:
            return
        self.on_sample(sample)
        self.recorder.record(sample)

    async def _watch(self, throttled: float) -> None:
        cpu = time.process_time()
        while not self._window.is_over:
            await self._window.over(self.clock() + _WATCH_SECONDS)
            self.recorder.set_throttled(throttled_seconds() - throttled)
            self.recorder.set_cpu(time.process_time() - cpu)
            if self._reachability.is_unreachable(self.clock()):
                self._window.close(Ending.UNREACHABLE)

    async def _probe(self) -> None:
        """End the run if no connection can be opened, and the attempts are not even refused (a firewall drops them)."""
        for _ in range(_PROBES):
            if self._reachability.has_connected or self._reachability.has_answered:
                return
            begun = self.clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(OPEN_SECONDS):
                    self._reachability.has_connected = bool(await self.client.open(1))
            # An attempt that fails quickly is noticed by the requests, which fail as quickly.
            await self._window.over(begun + OPEN_SECONDS)
        if not self._reachability.has_connected and not self._reachability.has_answered:
            self._window.close(Ending.UNREACHABLE)

    def _note_saturation(self, saturation: Saturation) -> None:
        self.recorder.set_saturation(saturation)
        if self.document.load.stop_when_saturated:
            self._window.close(Ending.SATURATED)

    # ---- the shape

    @property
    def _is_trace(self) -> bool:
        return self.document.trace is not None

    def _name_stages(self) -> None:
        """Note the stages in the recorder, with their mean rates. The rate of a closed loop is not known before."""
        stages, begin = self.document.load.stages, self._window.begin
        if not stages:
            return
        names = names_of_stages(stages)
        warmup = self.document.load.warmup_seconds
        segments = {segment.step: segment for segment in self._curve.segments if segment.begin >= warmup}
        for index, name in enumerate(names):
            segment = segments[index]
            is_open = stages[index].rate is not None
            rate = segment.area / (segment.end - segment.begin) if is_open else 0.0
            self.recorder.end_step(self.recorder.begin_step(name, rate, begin + segment.begin), begin + segment.end)


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
