"""Runs a sweep: one rate after the other, each judged by its own requests."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import METRICS, Arrivals, MetricName, RunSweep, SweepResult
from llmendpoint_loadjob.load.arrivals import dispersion_of, unit_arrivals
from llmendpoint_loadjob.load.context import Context
from llmendpoint_loadjob.load.curve import LoadCurve, Segment
from llmendpoint_loadjob.load.judging import StepJudge
from llmendpoint_loadjob.load.open_loop import OpenLoop
from llmendpoint_loadjob.load.schedule import Due, Schedule
from llmendpoint_loadjob.load.search import Estimate, Search, without_bias
from llmendpoint_loadjob.result.timings import Sample

#: Share of a step, at its beginning, whose requests do not count: the server still works as at the rate before.
SETTLING = 0.2
#: The step of requests that count toward nothing.
UNRECORDED = -1
_UNMEASURED = "the sweep cannot tell: the latency of an objective could not be measured"


@dataclass
class _Plan:
    """A step: its rate and duration, its part that counts, and its index in the recorder."""

    number: int
    rate: float
    settling: float
    seconds: float
    step: int = 0

    @property
    def expected(self) -> float:
        """The number of requests that count."""
        return self.rate * (self.seconds - self.settling)


class Sweep:
    """A sweep of one pod. Several pods cannot share one, because each rate depends on how the one before went."""

    def __init__(self, context: Context, sweep: RunSweep) -> None:
        self._context = context
        self._sweep = sweep
        self._search = Search(sweep)
        self._measured = 0

    async def run(self) -> None:
        """Search until the interval is narrow enough, the maximum of requests is reached, or the load has ended."""
        context = self._context
        limit = context.document.load.max_requests or math.inf
        await self._warm_up()
        number = 0
        while not context.window.is_over and self._measured < limit and (rate := self._search.next_rate()) is not None:
            number += 1
            judge = await self._step(self._plan(number, rate))
            context.share_done = self._search.share_done
            if judge is not None and not judge.is_measured and not judge.has_errors:
                self._report(Estimate(None, 0.0, self._sweep.max_rate, _UNMEASURED))
                return
            self._report(self._search.estimate())

    def _report(self, found: Estimate) -> None:
        if found.rate is not None:
            load = self._context.document.load
            dispersion = dispersion_of(load.arrivals or Arrivals.POISSON, load.burstiness)
            found = without_bias(found, self._plan(0, found.rate).expected * self._late_share, dispersion).with_rate()
        self._context.recorder.set_sweep(SweepResult(found.rate, found.low, found.high, found.message))

    @property
    def _late_share(self) -> float:
        """The share of the requests that may exceed a threshold, for the highest percentile of the objectives."""
        percentiles = [item.percentile for item in self._context.document.objectives if item.percentile]
        return (100 - max(percentiles, default=95)) / 100

    async def _warm_up(self) -> None:
        seconds = self._context.document.load.warmup_seconds
        if seconds:
            self._context.stage = f"warm-up at {self._sweep.min_rate:.4g} requests/s"
            await self._send(_Plan(0, self._sweep.min_rate, math.inf, seconds), StepJudge(()))

    def _plan(self, number: int, rate: float) -> _Plan:
        """Return a step that is long enough for the percentiles of the objectives."""
        needed = max(
            (100 / (100 - (objective.percentile or 50)) for objective in self._context.document.objectives
             if METRICS[MetricName(objective.metric)].is_latency), default=20.0,
        )  # fmt: skip
        seconds = max(self._sweep.step_seconds, max(20.0, needed) / rate / (1 - SETTLING))
        return _Plan(number, rate, SETTLING * seconds, seconds)

    async def _step(self, plan: _Plan) -> StepJudge | None:
        """Run a step, and tell the search. Returns None if the load ended meanwhile."""
        context, window = self._context, self._context.window
        context.stage = f"step {plan.number}: {plan.rate:.4g} requests/s"
        origin = window.clock()
        plan.step = context.recorder.begin_step(f"{plan.rate:.4g} requests/s", plan.rate, origin + plan.settling)
        judge = StepJudge(context.document.objectives)
        end = await self._send(plan, judge)
        context.recorder.end_step(plan.step, max(end, origin + plan.settling))
        if window.is_over:
            return None
        self._measured += judge.requests
        seconds = end - origin - plan.settling
        is_constant = context.document.load.arrivals is Arrivals.CONSTANT
        # The last request of a step may be due at its very end.
        is_as_planned = is_constant and judge.unsent <= 1
        rate = plan.rate if is_as_planned or judge.requests < 2 or seconds <= 0 else judge.requests / seconds
        is_met = judge.is_met and not judge.is_lost(plan.expected)
        if judge.is_measured or judge.has_errors:
            growth = judge.growth(seconds)
            context.recorder.judge_step(plan.step, is_met=is_met, growth=growth, is_late=judge.is_late)
        self._search.note(rate, is_met=is_met)
        return judge

    async def _send(self, plan: _Plan, judge: StepJudge) -> float:
        """Send a step and wait for its responses. Returns its end."""
        context, window = self._context, self._context.window
        origin = window.clock()
        loop = OpenLoop(context.sender, window, context.timer, context.slots, context.prompts, context.part)

        def on_end(due: Due, sample: Sample) -> None:
            if due.step >= 0:
                judge.note(sample)

        loop.on_end = on_end
        schedule = self._schedule(plan)
        sending = asyncio.create_task(loop.run(schedule, origin, context.crew))
        try:
            end = await self._until_end(sending, origin + plan.seconds, plan, judge)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
        await self._drain()
        held = context.slots.is_wanted
        for turn in loop.unsent(schedule, origin, end):
            if turn.step >= 0:
                context.recorder.skip(turn.due, turn.step, held=held)
                judge.skip(held=held)
        return end

    def _schedule(self, plan: _Plan) -> Schedule:
        load = self._context.document.load
        law = load.arrivals or Arrivals.POISSON
        units = unit_arrivals(law, f"{load.seed}/sweep/{plan.number}", load.burstiness)
        curve = LoadCurve([Segment(0.0, plan.seconds, plan.rate, plan.rate)])
        times = ((at, plan.step if at >= plan.settling else UNRECORDED) for at, _ in curve.times_of(units))
        return Schedule(times, plan.seconds)

    async def _until_end(self, sending: asyncio.Task[None], end: float, plan: _Plan, judge: StepJudge) -> float:
        """Wait for the end of a step, which comes early if an objective cannot be met any more."""
        window = self._context.window
        while not window.is_over and (remaining := end - window.clock()) > 0:
            await window.over(window.clock() + min(0.25, remaining))
            self._context.crew.check()
            if sending.done():
                sending.result()
            if judge.is_lost(plan.expected):
                return window.clock()
        return min(end, window.clock())

    async def _drain(self) -> None:
        """Wait for the requests of a step, so that they do not burden the next one, also if the step has missed.

        Not every server notices that a client has gone: after an abort, it could still be busy in the next step.
        """
        context = self._context
        await context.crew.wait(context.document.load.drain_timeout_seconds)
        context.client.abort()
        await context.crew.wait(1.0)
        await context.crew.cancel()
