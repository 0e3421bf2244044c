"""The progress of a run: how much of it is done, what is awaited, and the numbers so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import Progress, RunDocument
from llmendpoint_common.results.words import plural
from llmendpoint_loadjob.load.closed_loop import ClosedLoop
from llmendpoint_loadjob.load.context import Context
from llmendpoint_loadjob.load.curve import LoadCurve, names_of_stages
from llmendpoint_loadjob.load.open_loop import OpenLoop
from llmendpoint_loadjob.load.schedule import Slice
from llmendpoint_loadjob.load.sender import Sender, SendingClient
from llmendpoint_loadjob.load.window import Window


@dataclass
class Course:
    """The course of a run. The run sets the fields with defaults while it runs.

    `context`, `open` and `closed` are None until the run has them. `drain_until` is the time at which the wait for the
    last responses ends.
    """

    document: RunDocument
    curve: LoadCurve
    window: Window
    client: SendingClient
    sender: Sender
    part: Slice
    context: Context | None = None
    open: OpenLoop | None = None
    closed: ClosedLoop | None = None
    awaiting: str = "opening connections"
    drain_until: float = math.inf
    _share_at_stop: float | None = None

    def stop(self) -> None:
        """Keep the share that was done, because the run is being stopped."""
        self._share_at_stop = self._share_done(self._elapsed)

    def progress(self) -> Progress:
        """Return the progress. Its percentage is that of the time, or of the maximum of requests if it is larger."""
        counters = self.sender.counters
        elapsed = self._elapsed
        return Progress(
            percent=int(100 * self._share_done(elapsed)),
            requests=counters.finished,
            errors=counters.errors,
            in_flight=self.client.in_flight,
            output_tokens=counters.tokens,
            elapsed_seconds=elapsed,
            ttft_p95_seconds=counters.ttft.percentile(95) if counters.ttft.count else None,
            awaiting=self._what_is_awaited(),
            stage=self._stage(elapsed),
            offered_rate=self._offered_rate(elapsed),
            completed_rate=counters.completed_rate(elapsed) if elapsed else None,
            error=counters.most_frequent_error,
        )

    @property
    def _elapsed(self) -> float:
        return self.window.clock() - self.window.begin if self.window.has_begun else 0.0

    def _share_done(self, elapsed: float) -> float:
        load = self.document.load
        if self._share_at_stop is not None:
            return self._share_at_stop
        if self.window.is_over or not self.window.has_begun:
            return 1.0 if self.window.is_over else 0.0
        shares = [self.context.share_done if self.context is not None else 0.0]
        if self.curve.end:
            shares.append(elapsed / self.curve.end)
        if self.document.trace is not None and self.document.trace.duration_seconds:
            shares.append(elapsed / (self.document.load.warmup_seconds + self.document.trace.duration_seconds))
        if load.max_requests:
            shares.append(self.sender.counters.finished / load.max_requests)
        return min(0.99, max(shares))

    def _what_is_awaited(self) -> str:
        if self.awaiting or not self.window.has_begun:
            return self.awaiting
        in_flight = self.client.in_flight
        if self.window.is_over:
            remaining = max(0.0, self.drain_until - self.window.clock())
            return f"waiting for {plural(in_flight, 'request')}, at most {remaining:.0f} s" if in_flight else ""
        if self.closed is not None and self.closed.waiting:
            waiting = self.closed.waiting
            who = "1 user waits" if waiting == 1 else f"{waiting} users wait"
            return f"{who} after an error"
        if self.open is not None and self.open.held:
            is_wanted = self.context is None or self.context.slots.is_wanted
            limit = "the maximum is in flight" if is_wanted else "the open-file limit is reached"
            return f"{limit}, so the next request waits"
        return ""

    def _stage(self, elapsed: float) -> str:
        if self.context is not None and self.context.stage:
            return self.context.stage
        if not self.window.has_begun:
            return ""
        if elapsed < self.document.load.warmup_seconds:
            return "warm-up"
        segment = self.curve.segment_at(elapsed)
        stages = self.document.load.stages
        return names_of_stages(stages)[segment.step] if stages and segment is not None else ""

    def _offered_rate(self, elapsed: float) -> float | None:
        load = self.document.load
        segment = self.curve.segment_at(elapsed) if load.is_open and self.window.has_begun else None
        return segment.level_at(elapsed) / self.part.pods if segment is not None else None
