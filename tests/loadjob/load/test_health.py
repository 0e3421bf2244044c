"""What the load generator measures about itself, and what it checks before the start."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmendpoint_common.process.errors import FileLimitError
from llmendpoint_loadjob.load.health import GarbageWatch, LagWatch, rare_collections, short_waits, throttled_seconds
from llmendpoint_loadjob.load.limits import available_connections, check_connections
from llmendpoint_loadjob.load.timer import LoopTimer, PreciseTimer, timer_of


class TestThrottling:
    @pytest.mark.parametrize(
        ("cgroup", "file", "text"),
        [
            ("0::/\n", "cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n"),
            ("0::/pod/container\n", "pod/container/cpu.stat", "throttled_usec 2500000\n"),
            ("0::/pod/container\n", "pod/cpu.stat", "throttled_usec 2500000\n"),
            # The path of the host, seen from a container without a namespace of cgroups.
            ("0::/kubepods/pod1/c\n", "cpu.stat", "throttled_usec 2500000\n"),
            ("3:memory:/x\n2:cpu,cpuacct:/x\n", "cpu,cpuacct/x/cpu.stat", "nr_periods 9\nthrottled_time 2500000000\n"),
            ("2:cpu,cpuacct:/\n", "cpu/cpu.stat", "throttled_time 2500000000\n"),
        ],
    )
    def test_is_read_in_both_versions_of_cgroups_and_of_the_parents(
        self, tmp_path: Path, cgroup: str, file: str, text: str
    ) -> None:
        (tmp_path / "self").write_text(cgroup)
        path = tmp_path / "root" / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
        assert throttled_seconds(tmp_path / "root", tmp_path / "self") == 2.5

    def test_is_0_if_it_is_unknown(self, tmp_path: Path) -> None:
        assert throttled_seconds(tmp_path, tmp_path / "missing") == 0.0


class Lags:
    """A recorder that keeps the delays of the event loop in lists."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.ticks: list[tuple[float, float]] = []

    def add_lag(self, seconds: float) -> None:
        self.lags.append(seconds)

    def add_tick(self, due: float, at: float) -> None:
        self.ticks.append((due, at))


class TestLag:
    async def test_a_stop_of_the_event_loop_counts_as_long_as_it_lasts(self) -> None:
        recorder, started = Lags(), time.perf_counter()
        task = asyncio.create_task(LagWatch(time.perf_counter, recorder).run())
        await asyncio.sleep(0.03)
        begun = time.perf_counter()
        time.sleep(0.5)
        ended = time.perf_counter()
        await asyncio.sleep(0.03)
        task.cancel()
        # One tick was late by half a second, and the 49 others in this time would have been late too.
        assert max(recorder.lags) >= 0.48
        assert len([lag for lag in recorder.lags if lag > 0.1]) >= 38
        due, at = max(recorder.ticks, key=lambda tick: tick[1] - tick[0])
        # On a busy machine, this tick can be late before the stop begins.
        assert started <= due <= begun + 0.02
        assert at >= ended

    async def test_a_stop_can_be_noticed_before_the_next_tick_and_counts_once(self) -> None:
        recorder = Lags()
        watch = LagWatch(time.perf_counter, recorder)
        watch.notice()
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.03)
        time.sleep(0.3)
        watch.notice()
        due, at = recorder.ticks[-1]
        assert at - due >= 0.28
        await asyncio.sleep(0.03)
        task.cancel()
        assert len([1 for due, at in recorder.ticks if at - due >= 0.28]) == 1

    async def test_a_stop_is_noticed_at_the_end(self) -> None:
        recorder = Lags()
        watch = LagWatch(time.perf_counter, recorder)
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.03)
        time.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert max(recorder.lags) >= 0.28
        count = len(recorder.lags)
        time.sleep(0.02)
        watch.notice()
        assert len(recorder.lags) == count

    def test_pauses_of_the_garbage_collector_are_measured(self) -> None:
        with GarbageWatch() as watch:
            gc.collect()
        assert 0 < watch.longest <= watch.total

    def test_the_thresholds_of_the_garbage_collector_are_restored(self) -> None:
        before = gc.get_threshold()
        with rare_collections():
            assert gc.get_freeze_count() > 0
            assert gc.get_threshold() != before
        assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)

    def test_threads_keep_the_event_loop_waiting_for_less_than_a_millisecond(self) -> None:
        before = sys.getswitchinterval()
        with short_waits():
            assert sys.getswitchinterval() < 0.001
        assert sys.getswitchinterval() == before


class TestFiles:
    def test_a_load_above_the_limit_is_refused_with_the_limit_that_it_needs(self) -> None:
        check_connections(10, 10)
        needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] + 95
        with pytest.raises(FileLimitError, match=rf"at least 100 connections .* allows 5: .*`ulimit -n {needed}`"):
            check_connections(100, 5)

    def test_the_limit_is_raised(self) -> None:
        program = (
            "import resource\n"
            "from llmendpoint_loadjob.load.limits import available_connections\n"
            "print(available_connections(), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        )
        result = subprocess.run(
            ["sh", "-c", f'ulimit -Sn 60 && ulimit -Hn 300 && exec {sys.executable} -c "{program}"'],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        available, soft, hard = map(int, result.stdout.split())
        assert (soft, hard) == (300, 300)
        assert 200 < available < 270

    def test_an_unlimited_machine_has_room(self) -> None:
        assert 0 < available_connections() < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.alone
class TestTimer:
    @pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
    async def test_waits_to_a_fraction_of_a_millisecond(self) -> None:
        timer = timer_of(time.perf_counter)
        assert isinstance(timer, PreciseTimer)
        late = []
        for _ in range(60):
            at = time.perf_counter() + 0.0051
            await timer.until(at)
            late.append(time.perf_counter() - at)
        timer.close()
        # The median, because a busy machine delays some of them. The event loop's own timers are late by up to 1 ms.
        assert 0 <= sorted(late)[30] < 0.0005
        assert min(late) > -0.0001

    async def test_a_time_that_has_passed_is_not_waited_for(self) -> None:
        for timer in (timer_of(time.perf_counter), LoopTimer(time.perf_counter)):
            begun = time.perf_counter()
            await timer.until(begun - 1)
            assert time.perf_counter() - begun < 0.1

    async def test_a_wait_can_be_cancelled_and_the_timer_used_again(self) -> None:
        timer = timer_of(time.perf_counter)
        waiting = asyncio.create_task(timer.until(time.perf_counter() + 0.005))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        at = time.perf_counter() + 0.004
        await timer.until(at)
        assert time.perf_counter() >= at - 0.0001
        timer.close()
