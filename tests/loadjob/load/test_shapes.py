"""What is sent when: the shapes of the load, in virtual time, against servers whose behaviour is known."""

from __future__ import annotations

import asyncio
import math
import random
import re
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import (
    Arrivals,
    ErrorClass,
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunSessions,
    RunStage,
    RunSweep,
    RunTarget,
    RunTrace,
)
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_loadjob.dataset.expectation import Expectation
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.run import LoadRun, needed_connections
from llmendpoint_loadjob.load.timer import LoopTimer
from llmendpoint_loadjob.load.window import Ending
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample
from support.load.virtual_server import VirtualServer
from support.virtual_time import run_virtually, slowly


def prompts(follow_ups: tuple[str, ...] = ()) -> Iterator[Prompt]:
    return (Prompt(f"q{i}", "Math", (("user", f"question {i}"),), follow_ups=follow_ups) for i in count())


class Outcome:
    """A run that has ended, with what the server and the recorder saw."""

    def __init__(self, load: RunLoad, clock: Callable[[], float], trace: RunTrace | None = None, **server: Any) -> None:
        self.load = load
        self.server = VirtualServer(clock, **server)
        self.samples: list[Sample] = []
        self.document = RunDocument(RunTarget("http://x"), "m", load, trace=trace)
        self.recorder = Recorder(self.document)
        self.clock = clock
        self.run: LoadRun

    def start(self, source: Iterator[Prompt] | None = None, **arguments: Any) -> LoadRun:
        self.run = LoadRun(
            self.document, source or prompts(), self.server, self.recorder,
            clock=self.clock, timer=LoopTimer(self.clock), on_sample=self.samples.append, **arguments,
        )  # fmt: skip
        return self.run

    @property
    def measurements(self) -> Measurements:
        return self.recorder.measurements

    @property
    def begin(self) -> float:
        return self.recorder._begin

    def times(self) -> list[float]:
        """Return when the server received the requests, in seconds after the start."""
        return [received.at - self.begin for received in self.server.received]


def drive(
    load: RunLoad, source: Iterator[Prompt] | None = None, *, run: dict[str, Any] | None = None, **server: Any
) -> Outcome:
    async def main(clock: Callable[[], float]) -> Outcome:
        outcome = Outcome(load, clock, **server)
        await outcome.start(source, **(run or {})).run()
        return outcome

    return run_virtually(main)


class TestOpenLoop:
    def test_a_queue_in_the_client_shows_in_the_latencies_from_the_schedule(self) -> None:
        """Service 0.5 s, 10 requests per second, one at a time, 20 requests: mean 4.3 s and maximum 8.1 s."""
        load = RunLoad(rate=10, arrivals=Arrivals.CONSTANT, max_in_flight=1, max_requests=20)
        samples = drive(load).samples
        scheduled = [sample.request_latency_scheduled for sample in samples]
        assert statistics.mean(scheduled) == pytest.approx(4.3)
        assert max(scheduled) == pytest.approx(8.1)
        assert {round(sample.request_latency, 6) for sample in samples} == {0.5}

    def test_constant_arrivals_are_exact(self) -> None:
        times = drive(RunLoad(rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=10)).times()
        assert times == pytest.approx([index / 20 for index in range(200)])

    def test_requests_do_not_wait_for_responses_unless_the_number_in_flight_is_limited(self) -> None:
        def slow() -> float:
            return 100.0

        load = RunLoad(rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=5, drain_timeout_seconds=200)
        assert max(number for _, number in drive(load, service=slow).server.concurrency) == 100
        limited = RunLoad(
            rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=5, max_in_flight=7, drain_timeout_seconds=0
        )
        assert max(number for _, number in drive(limited, service=slow).server.concurrency) == 7

    @pytest.mark.parametrize(("max_in_flight", "blocked"), [(None, 93), (7, 0)])
    def test_requests_that_wait_because_of_the_limit_of_open_files_are_counted(
        self, max_in_flight: int | None, blocked: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llmendpoint_loadjob.load.run.available_connections", lambda: 7)
        load = RunLoad(rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=5, max_in_flight=max_in_flight)
        measurements = drive(load, service=lambda: 1.0).measurements
        assert (measurements.offered, measurements.blocked) == (100, blocked)

    @pytest.mark.parametrize(
        ("max_in_flight", "awaiting"),
        [(None, "the open-file limit is reached"), (7, "the maximum is in flight")],
    )
    def test_the_progress_says_which_limit_keeps_requests_back(
        self, max_in_flight: int | None, awaiting: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llmendpoint_loadjob.load.run.available_connections", lambda: 7)
        load = RunLoad(rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=5, max_in_flight=max_in_flight)

        async def main(clock: Callable[[], float]) -> str:
            run = Outcome(load, clock, service=lambda: 100.0).start()
            running = asyncio.create_task(run.run())
            await asyncio.sleep(3)
            found = run.progress().awaiting
            run.stop()
            await running
            return found

        assert run_virtually(main) == f"{awaiting}, so the next request waits"

    @pytest.mark.parametrize(
        ("law", "burstiness", "spread"),
        [(Arrivals.POISSON, None, 1.0), (Arrivals.GAMMA, 0.25, 2.0), (Arrivals.GAMMA, 4.0, 0.5)],
    )
    def test_random_arrivals_have_the_rate_and_the_spread_of_their_law(
        self, law: Arrivals, burstiness: float | None, spread: float
    ) -> None:
        times = drive(RunLoad(rate=50, arrivals=law, burstiness=burstiness, duration_seconds=200)).times()
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(times) == pytest.approx(10_000, rel=0.06)
        assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(spread, rel=0.05)

    def test_poisson_arrivals_pass_the_test_of_kolmogorov_in_a_ramp_too(self) -> None:
        """In a ramp from 0 to 100 in 100 s, the mean number of requests until t is t² / 2."""
        ramp = RunLoad(stages=(RunStage(100, rate=100, ramp=True),), seed=4)
        areas = [time * time / 2 for time in drive(ramp).times()]
        assert len(areas) == pytest.approx(5000, rel=0.05)
        gaps = [later - earlier for earlier, later in pairwise([0.0, *areas])]
        assert kolmogorov(gaps) < 1.63 / len(gaps) ** 0.5  # 1 %

    def test_constant_arrivals_in_a_ramp_follow_its_rate(self) -> None:
        ramp = RunLoad(arrivals=Arrivals.CONSTANT, stages=(RunStage(10, rate=10, ramp=True), RunStage(5, rate=2)))
        times = drive(ramp).times()
        assert times[:50] == pytest.approx([(2 * index) ** 0.5 for index in range(50)])
        assert [later - earlier for earlier, later in pairwise(times[50:])] == pytest.approx([0.5] * 9)

    def test_what_could_not_be_sent_until_the_end_of_the_drain_has_failed(self) -> None:
        load = RunLoad(
            rate=10, arrivals=Arrivals.CONSTANT, max_in_flight=1, duration_seconds=2, drain_timeout_seconds=3
        )
        outcome = drive(load)
        # 5 s for one request at a time, 0.5 s each; the last one is cut off, or has just ended.
        assert len(outcome.samples) == 20
        assert sum(sample.error is ErrorClass.UNFINISHED for sample in outcome.samples) in (10, 11)
        assert (outcome.measurements.offered, outcome.measurements.unsent) == (20, 0)


def kolmogorov(gaps: list[float]) -> float:
    """Return the distance of an empirical distribution from the exponential one with mean 1."""
    ordered, size = sorted(gaps), len(gaps)
    return max(
        max((index + 1) / size - (1 - math.exp(-gap)), (1 - math.exp(-gap)) - index / size)
        for index, gap in enumerate(ordered)
    )


class TestClosedLoop:
    def test_the_delivered_concurrency_is_exactly_that_of_the_load(self) -> None:
        source = random.Random(1)
        server = drive(
            RunLoad(concurrency=7, duration_seconds=100, warmup_seconds=5), service=lambda: source.uniform(0.1, 1)
        ).server
        begin, end = server.received[0].at + 1, server.received[0].at + 105
        # A user's next request is sent in the same instant, so the number of those in flight is 7 after each instant.
        after = {at: number for at, number in server.concurrency if begin <= at < end - 1}
        assert set(after.values()) == {7}

    @pytest.mark.parametrize("thinking", [0.0, 0.5])
    def test_the_time_for_which_users_wait_for_the_load_generator_is_measured(self, thinking: float) -> None:
        """10 users, and 0.5 s per response. While a prompt is made, no response is read: that time is in latencies."""
        load = RunLoad(concurrency=10, duration_seconds=100, think_time_seconds=thinking)
        users = 10 * 100e6
        assert drive(load, slowly(prompts(), 0.2)).measurements.idle > 0.1 * users
        assert drive(load, slowly(prompts(), 0.002)).measurements.idle == 0
        assert drive(load).measurements.idle == 0

    def test_users_do_not_all_start_in_one_instant(self) -> None:
        outcome = drive(RunLoad(concurrency=50, duration_seconds=20), service=lambda: 100.0)
        times = outcome.times()
        assert len(set(times)) == 50
        assert 0.3 < max(times) - min(times) <= 0.5
        assert times == drive(RunLoad(concurrency=50, duration_seconds=20), service=lambda: 100.0).times()

    def test_a_user_thinks_between_a_response_and_the_next_request(self) -> None:
        outcome = drive(RunLoad(concurrency=1, think_time_seconds=2, duration_seconds=3000))
        gaps = [later - earlier - 0.5 for earlier, later in pairwise(outcome.times())]
        assert statistics.mean(gaps) == pytest.approx(2, rel=0.1)
        assert statistics.stdev(gaps) == pytest.approx(2, rel=0.1)

    def test_users_join_in_a_ramp_and_leave_in_the_next_stage(self) -> None:
        stages = (RunStage(100, concurrency=10, ramp=True), RunStage(50, concurrency=3))
        outcome = drive(RunLoad(stages=stages), service=lambda: 0.1)

        def users_at(time: float) -> int:
            return [0, *(number for at, number in outcome.server.concurrency if at - outcome.begin <= time)][-1]

        assert [users_at(time) for time in (2, 12, 52, 98, 101, 149)] == [0, 1, 5, 10, 3, 3]

    def test_the_maximum_of_requests_counts_only_those_after_the_warmup(self) -> None:
        outcome = drive(RunLoad(concurrency=2, warmup_seconds=5, max_requests=10))
        assert outcome.measurements.whole.requests == 10
        assert len(outcome.samples) > 20

    def test_the_window_ends_with_the_last_response_if_the_maximum_of_requests_ends_the_load(self) -> None:
        measurements = drive(RunLoad(concurrency=1, max_requests=4), service=lambda: 0.53).measurements
        assert measurements.load == pytest.approx(2_120_000, abs=1000)
        assert measurements.whole.completed == 4

    def test_the_pause_after_the_last_response_is_not_part_of_the_window(self) -> None:
        measurements = drive(RunLoad(concurrency=1, think_time_seconds=100, max_requests=1)).measurements
        assert measurements.load == pytest.approx(500_000, abs=1000)

    def test_a_request_of_the_warm_up_is_awaited_before_the_maximum_of_requests_ends_the_load(self) -> None:
        times = iter((9.0, 0.4))
        load = RunLoad(concurrency=2, warmup_seconds=1, max_requests=3)
        measurements = drive(load, service=lambda: next(times, 0.4)).measurements
        assert measurements.whole.completed == 3
        assert measurements.warmup_answered > 1

    def test_users_wait_as_long_as_a_server_without_capacity_says(self) -> None:
        outcome = drive(
            RunLoad(concurrency=1, duration_seconds=60), fail=lambda _: ErrorClass.TOO_MANY_REQUESTS, retry_after=5.0
        )
        gaps = [later - earlier for earlier, later in pairwise(outcome.times())]
        assert all(5.0 <= gap <= 6.0 for gap in gaps)
        assert len(gaps) >= 9

    def test_a_user_that_waits_beyond_the_end_of_the_load_has_paused_until_then(self) -> None:
        outcome = drive(
            RunLoad(concurrency=1, duration_seconds=60), fail=lambda _: ErrorClass.TOO_MANY_REQUESTS, retry_after=300.0
        )
        assert outcome.measurements.paused == pytest.approx(60_000_000, abs=1_000_000)

    def test_a_request_of_the_warm_up_that_hangs_takes_its_user_from_the_load(self) -> None:
        times = iter((10_000.0, 20.0))
        measurements = drive(
            RunLoad(concurrency=3, duration_seconds=30, warmup_seconds=5, drain_timeout_seconds=1),
            service=lambda: next(times, 0.5),
        ).measurements
        assert measurements.whole.errors == 0
        assert measurements.warmup_failed.count == 1
        assert measurements.warmup_failed.sum == pytest.approx(30.0)
        assert measurements.warmup_late.max == pytest.approx(15.0, abs=0.5)


class TestSessions:
    def test_the_history_of_a_conversation_grows(self) -> None:
        outcome = drive(RunLoad(sessions=RunSessions(1), max_requests=6), prompts(("and then?", "finally?")))
        assert [sample.turn for sample in outcome.samples] == [0, 1, 2, 0, 1, 2]
        second = outcome.server.received[2]
        assert second.history == (
            ("user", "question 0"), ("assistant", "answer to q0"), ("user", "and then?"), ("assistant", "answer to q0"),
        )  # fmt: skip
        assert second.messages == (("user", "finally?"),)
        assert outcome.server.received[3].history == ()

    def test_the_number_of_turns_can_be_limited(self) -> None:
        outcome = drive(RunLoad(sessions=RunSessions(1, turns=2), max_requests=4), prompts(("b", "c")))
        assert [sample.turn for sample in outcome.samples] == [0, 1, 0, 1]

    def test_a_response_is_matched_once_the_last_message_of_its_question_was_sent(self) -> None:
        def questions() -> Iterator[Prompt]:
            pattern = Expectation("answer to q[13579]")
            return (replace(prompt, expect=pattern) for prompt in prompts(("b",)))

        session = drive(RunLoad(sessions=RunSessions(1), max_requests=4), questions())
        assert [sample.matched for sample in session.samples] == [None, False, None, True]
        alone = drive(RunLoad(concurrency=1, max_requests=2), questions())
        assert [sample.matched for sample in alone.samples] == [None, None]

    def test_synthetic_prompts_continue_with_the_next_prompts(self) -> None:
        texts = (Prompt(f"s{i}", "Synthetic", (("user", f"text {i}"),)) for i in count())
        outcome = drive(RunLoad(sessions=RunSessions(1, turns=2), max_requests=4), texts)
        assert [received.messages[0][1] for received in outcome.server.received] == [
            "text 0",
            "text 1",
            "text 2",
            "text 3",
        ]
        assert [len(received.history) for received in outcome.server.received] == [0, 2, 0, 2]

    def test_a_failed_turn_ends_the_conversation(self) -> None:
        outcome = drive(
            RunLoad(sessions=RunSessions(1), max_requests=2), prompts(("b",)),
            fail=lambda received: ErrorClass.SERVER_ERROR if received.prompt == "q0" else None,
        )  # fmt: skip
        assert [received.prompt for received in outcome.server.received] == ["q0", "q1"]


class TestTrace:
    def test_a_trace_is_replayed_with_its_own_times(self) -> None:
        async def main(clock: Callable[[], float]) -> Outcome:
            outcome = Outcome(RunLoad(), clock, RunTrace())
            offsets = [0.0, 0.1, 0.1, 5.0, 70.0]
            await outcome.start(replay=zip(offsets, prompts(), strict=False)).run()
            return outcome

        outcome = run_virtually(main)
        assert outcome.times() == pytest.approx([0.0, 0.1, 0.1, 5.0, 70.0])
        assert [received.prompt for received in outcome.server.received] == ["q0", "q1", "q2", "q3", "q4"]
        assert outcome.measurements.whole.requests == 5

    def test_a_part_of_a_trace_can_be_replayed(self) -> None:
        async def main(clock: Callable[[], float]) -> Outcome:
            outcome = Outcome(RunLoad(), clock, RunTrace(duration_seconds=3))
            await outcome.start(replay=zip([0.0, 1.0, 5.0], prompts(), strict=False)).run()
            return outcome

        assert run_virtually(main).times() == pytest.approx([0.0, 1.0])


class TestSlices:
    @pytest.mark.parametrize(
        "load",
        [
            RunLoad(rate=20, duration_seconds=10, warmup_seconds=2),
            RunLoad(stages=(RunStage(10, rate=20, ramp=True),), arrivals=Arrivals.GAMMA, burstiness=0.5),
            RunLoad(rate=20, max_requests=30),
        ],
    )
    def test_pods_send_together_what_one_pod_would_send(self, load: RunLoad) -> None:
        def seen(outcome: Outcome) -> set[tuple[float, str]]:
            return {(round(r.at - outcome.begin, 9), r.prompt) for r in outcome.server.received}

        whole = drive(load)
        parts = [drive(load, run={"slice": (pod, 3)}) for pod in range(3)]
        assert sorted(item for part in parts for item in seen(part)) == sorted(seen(whole))
        assert sum(part.measurements.offered for part in parts) == whole.measurements.offered

    def test_pods_have_their_share_of_the_users_and_of_the_maximum(self) -> None:
        load = RunLoad(concurrency=7, max_requests=100)
        parts = [drive(load, run={"slice": (pod, 3)}) for pod in range(3)]
        assert [max(number for _, number in part.server.concurrency) for part in parts] == [3, 2, 2]
        assert [part.measurements.whole.requests for part in parts] == [34, 33, 33]

    def test_pods_have_their_share_of_the_requests_in_flight(self) -> None:
        load = RunLoad(
            rate=60, arrivals=Arrivals.CONSTANT, duration_seconds=5, max_in_flight=7, drain_timeout_seconds=0
        )
        parts = [drive(load, service=lambda: 100.0, run={"slice": (pod, 3)}) for pod in range(3)]
        assert [max(number for _, number in part.server.concurrency) for part in parts] == [3, 2, 2]

    def test_a_limit_that_leaves_a_pod_without_a_request_is_refused(self) -> None:
        document = RunDocument(RunTarget("http://x"), "m", RunLoad(rate=1, max_in_flight=2))
        assert [needed_connections(document, (pod, 2)) for pod in range(2)] == [1, 1]
        with pytest.raises(
            ValueError, match=r"maxInFlight \(2\) must be at least the number of parts of the run \(3\)"
        ):
            LoadRun(document, prompts(), VirtualServer(lambda: 0.0), Recorder(document), slice=(0, 3))

    def test_a_sweep_cannot_be_shared(self) -> None:
        document = RunDocument(
            RunTarget("http://x"), "m", RunLoad(sweep=RunSweep(10)), objectives=(Objective(MetricName.ERROR_RATE, 0.1),)
        )
        with pytest.raises(ValueError, match="one pod"):
            LoadRun(document, prompts(), VirtualServer(lambda: 0.0), Recorder(document), slice=(0, 2))


class TestWindows:
    def test_the_cpu_time_of_the_load_is_measured(self) -> None:
        measurements = drive(RunLoad(rate=20, duration_seconds=5)).measurements
        assert 0 < measurements.cpu < 5_000_000

    def test_rates_are_those_of_the_load_without_the_drain(self) -> None:
        load = RunLoad(rate=10, arrivals=Arrivals.CONSTANT, duration_seconds=5, warmup_seconds=2)
        measurements = drive(load, service=lambda: 5.0).measurements
        assert (measurements.offered, measurements.sent, measurements.whole.requests) == (50, 50, 50)
        assert measurements.whole.completed <= 1
        assert (measurements.warmup, measurements.load) == (2_000_000, 5_000_000)
        assert measurements.drain == pytest.approx(4_900_000, abs=300_000)

    def test_requests_without_a_response_at_the_end_of_the_drain_are_unfinished(self) -> None:
        load = RunLoad(concurrency=3, duration_seconds=1, drain_timeout_seconds=10)
        outcome = drive(load, service=lambda: 10_000.0)
        assert [sample.error for sample in outcome.samples] == [ErrorClass.UNFINISHED] * 3
        assert outcome.measurements.errors["unfinished"].count == 3

    def test_the_progress_says_what_is_awaited_in_the_drain(self) -> None:
        async def main(clock: Callable[[], float]) -> str:
            outcome = Outcome(RunLoad(concurrency=3, duration_seconds=1), clock, service=lambda: 10_000.0)
            run = outcome.start()
            running = asyncio.create_task(run.run())
            await asyncio.sleep(11)
            progress = run.progress()
            assert progress.percent == 100
            await running
            return progress.awaiting

        assert run_virtually(main) == "waiting for 3 requests, at most 50 s"


class TestEnd:
    def test_a_stop_ends_the_streams_and_drops_them(self) -> None:
        async def main(clock: Callable[[], float]) -> tuple[Outcome, float]:
            outcome = Outcome(RunLoad(concurrency=100, duration_seconds=3600), clock, service=lambda: 100.0)
            run = outcome.start()
            running = asyncio.create_task(run.run())
            await asyncio.sleep(150)
            begun, sent = clock(), len(outcome.server.received)
            run.stop()
            await running
            assert len(outcome.server.received) == sent
            return outcome, clock() - begun

        outcome, seconds = run_virtually(main)
        assert seconds < 0.1
        assert outcome.server.in_flight == 0
        assert {sample.error for sample in outcome.samples} == {None}
        assert outcome.measurements.interrupted
        assert outcome.run.ending is Ending.STOPPED

    @pytest.mark.parametrize(
        ("load", "pods", "opened"),
        [
            (RunLoad(rate=40, duration_seconds=5), 1, 80),
            (RunLoad(rate=40, duration_seconds=5), 4, 20),
            (RunLoad(rate=40, duration_seconds=5, max_in_flight=50), 1, 50),
            (RunLoad(rate=0.1, duration_seconds=5), 1, 1),
            (RunLoad(rate=2000, duration_seconds=0.01), 1, 1000),
        ],
    )
    def test_connections_for_two_seconds_are_opened_before_an_open_loop(
        self, load: RunLoad, pods: int, opened: int
    ) -> None:
        document = RunDocument(RunTarget("http://x"), "m", load)

        async def main(clock: Callable[[], float]) -> int:
            never: Awaitable[None] = asyncio.get_running_loop().create_future()
            server = VirtualServer(lambda: 0.0)
            run = LoadRun(
                document, prompts(), server, Recorder(document), slice=(0, pods), clock=clock, barrier=never,
                timer=LoopTimer(clock),
            )  # fmt: skip
            running = asyncio.create_task(run.run())
            await run.ready.wait()
            run.stop()
            await running
            return server.opened

        assert run_virtually(main) == opened

    def test_a_stop_ends_a_run_that_waits_for_its_start(self) -> None:
        async def main(clock: Callable[[], float]) -> int:
            outcome = Outcome(RunLoad(concurrency=2), clock)
            never: Awaitable[None] = asyncio.get_running_loop().create_future()
            run = outcome.start(barrier=never)
            running = asyncio.create_task(run.run())
            await run.ready.wait()
            assert run.progress().awaiting == "waiting for the start signal"
            assert outcome.server.opened == 2
            run.stop()
            await running
            return len(outcome.server.received)

        assert run_virtually(main) == 0

    @pytest.mark.parametrize(
        "load", [RunLoad(concurrency=4, duration_seconds=600), RunLoad(rate=2, duration_seconds=600)]
    )
    def test_a_run_ends_within_seconds_if_nothing_answers(self, load: RunLoad) -> None:
        outcome = drive(load, is_reachable=False, retry_after=0.1)
        assert outcome.run.ending is Ending.UNREACHABLE
        assert max(outcome.times()) < 6
        assert outcome.measurements.errors["refused"].count > 1

    def test_a_server_that_dies_in_the_middle_does_not_end_the_run(self) -> None:
        load = RunLoad(rate=2, arrivals=Arrivals.CONSTANT, duration_seconds=60)
        outcome = drive(load, fail=lambda received: ErrorClass.REFUSED if received.at > 1010 else None)
        assert outcome.run.ending is Ending.COMPLETE
        assert outcome.measurements.whole.requests == 120

    def test_a_broken_source_of_prompts_ends_the_run_with_its_error(self) -> None:
        def broken() -> Iterator[Prompt]:
            yield next(prompts())
            raise OSError("the file is gone")

        for load in (RunLoad(concurrency=2), RunLoad(rate=2)):
            with pytest.raises(OSError, match="the file is gone"):
                drive(load, broken())


class TestSaturation:
    @pytest.mark.parametrize("law", [Arrivals.CONSTANT, Arrivals.POISSON])
    def test_a_rate_above_the_capacity_is_noticed_and_can_end_the_run(self, law: Arrivals) -> None:
        load = RunLoad(rate=20, arrivals=law, duration_seconds=600, stop_when_saturated=True)
        outcome = drive(load, servers=5)
        assert outcome.run.ending is Ending.SATURATED
        saturation = outcome.measurements.saturation
        assert saturation is not None
        # The queue grows from the first request on, which shows only after some requests.
        assert saturation.at_seconds < 1
        noticed = re.search(r"noticed ([0-9.]+)s after the warm-up", saturation.message)
        assert noticed is not None
        assert 1 < float(noticed[1]) < 60
        assert saturation.offered_rate == pytest.approx(20, rel=0.2)
        assert "could not follow" in saturation.message

    def test_a_rate_below_the_capacity_is_not(self) -> None:
        outcome = drive(RunLoad(rate=8, duration_seconds=600), servers=5)
        assert outcome.measurements.saturation is None
        assert outcome.run.ending is Ending.COMPLETE

    def test_it_is_noticed_in_the_stage_in_which_it_begins(self) -> None:
        stages = (RunStage(100, rate=5), RunStage(100, rate=20))
        saturation = drive(RunLoad(stages=stages, arrivals=Arrivals.CONSTANT), servers=5).measurements.saturation
        assert saturation is not None
        assert saturation.at_seconds == pytest.approx(100, abs=1)

    def test_a_long_latency_alone_is_no_saturation(self) -> None:
        load = RunLoad(rate=20, arrivals=Arrivals.CONSTANT, duration_seconds=100)
        assert drive(load, service=lambda: 30.0).measurements.saturation is None
