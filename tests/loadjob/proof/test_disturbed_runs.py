"""Runs in which the server or the load generator stops for a while, with real processes: none of them passes wrongly."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.load.known_latency import known_latency_process
from support.load.load_program import RunningLoad, run_load, running_load
from support.servers import StartSimulator
from support.waiting import wait_until

pytestmark = pytest.mark.alone

OBJECTIVES = [
    {"metric": "ErrorRate", "threshold": 0.05},
    {"metric": "RequestLatency", "threshold": 2.0, "percentile": 95},
]
FAST = ("--ttft=50ms", "--inter-token=5ms", "--tokens=5")


def outcome(summary: dict[str, Any]) -> tuple[str, str]:
    return summary["verdict"], summary["reason"]


def test_a_server_that_hangs_until_the_end_does_not_pass(tmp_path: Path) -> None:
    load = {"concurrency": 4, "durationSeconds": 8.0, "drainTimeoutSeconds": 1.0}
    with (
        known_latency_process(*FAST) as server,
        running_load(tmp_path, server.url, load, objectives=OBJECTIVES) as running,
    ):
        wait_until(lambda: running.answers >= 100)
        server.stop()
        result = running.result()
    assert (outcome(result.summary), result.code) == (("Invalid", "NotMeasured"), 98)
    assert "the server ended no request for" in result.summary["message"]
    assert result.summary["errorsByClass"] == {"unfinished": 4}
    assert [objective["met"] for objective in result.summary["slo"]] == [False, False]


def test_a_server_that_hangs_and_then_answers_everything_does_not_pass(tmp_path: Path) -> None:
    load = {"concurrency": 4, "durationSeconds": 10.0}
    with (
        known_latency_process(*FAST) as server,
        running_load(tmp_path, server.url, load, objectives=OBJECTIVES) as running,
    ):
        wait_until(lambda: running.answers >= 100)
        before = running.answers
        server.stop()
        # The hang has to last, and nothing tells its length but the clock.
        with suppress(AssertionError):
            wait_until(lambda: False, 5.0)
        server.go_on()
        wait_until(lambda: running.answers > before + 20)
        result = running.result()
    assert (outcome(result.summary), result.code) == (("Invalid", "NotMeasured"), 98)
    assert result.summary["errors"] == 0
    assert "the server ended no request for" in result.summary["message"]


def test_a_load_that_the_maximum_in_flight_kept_back_does_not_pass(tmp_path: Path) -> None:
    """20 requests are due within 2 s, and the server takes 0.5 s for each, one at a time."""
    load = {"rate": 10.0, "arrivals": "constant", "maxInFlight": 1, "durationSeconds": 2.0}
    objectives = [{"metric": "TTFT", "threshold": 1.0, "percentile": 50}]
    with known_latency_process("--ttft=500ms", "--tokens=1") as server:
        result = run_load(tmp_path, server.url, load, objectives=objectives)
    assert (outcome(result.summary), result.code) == (("Invalid", "NotMeasured"), 98)
    assert "maxInFlight (1) kept the others back" in result.summary["message"]


def test_a_server_that_stands_still_again_and_again_does_not_pass(tmp_path: Path) -> None:
    """It stands still for 1 s of each 3 s. Its 4 users have few late requests, because they send none meanwhile."""
    load = {"concurrency": 4, "durationSeconds": 12.0}
    objectives = [{"metric": "TTFT", "threshold": 0.4, "percentile": 90}]
    with (
        known_latency_process(*FAST) as server,
        running_load(tmp_path, server.url, load, objectives=objectives) as running,
    ):
        wait_until(lambda: running.answers >= 10)
        while running.is_running:
            server.stop()
            time.sleep(1.0)
            server.go_on()
            time.sleep(2.0)
        result = running.result()
    assert (outcome(result.summary), result.code) == (("Invalid", "NotMeasured"), 98), result.summary["message"]
    assert result.summary["errors"] == 0
    assert "TTFT p90 was met by the requests that were sent, but users sent none" in result.summary["message"]
    assert "times, the server sent nothing for more than 400ms" in result.summary["message"]


async def test_a_server_that_first_loads_its_model_is_not_one_that_hangs(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.05, tokens=3, load=3.0, parallel=4)
    result = await asyncio.to_thread(
        run_load, tmp_path, simulator.url, {"concurrency": 2, "durationSeconds": 10.0}, objectives=OBJECTIVES,
        target={"url": simulator.url, "api": "ollama-chat"}, model="simulated",
    )  # fmt: skip
    assert (outcome(result.summary), result.code) == (("Passed", "ObjectivesMet"), 0), result.summary["message"]
    assert "The server was loading the model for 3" in result.summary["message"]


@pytest.mark.parametrize("load", [{"rate": 20.0}, {"concurrency": 4}])
def test_a_load_generator_that_was_stopped_reports_no_failure_of_the_server(
    tmp_path: Path, load: dict[str, float]
) -> None:
    """The responses arrive within the timeout, while the load generator is stopped for twice as long."""
    objectives = [{"metric": "ErrorRate", "threshold": 0.01}]
    with (
        known_latency_process(*FAST) as server,
        running_load(
            tmp_path,
            server.url,
            {**load, "durationSeconds": 8.0},
            objectives=objectives,
            request={"timeoutSeconds": 1.0},
        ) as running,
    ):
        wait_until(lambda: running.answers >= 10)
        os.kill(running.process.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(running.process.pid, signal.SIGCONT)
        summary = running.result().summary
    assert summary["errors"] == 0, summary["errorsByClass"]
    assert outcome(summary) in (("Passed", "ObjectivesMet"), ("Invalid", "ClientLimited"))
    assert "the server" not in summary["message"].lower()


@pytest.mark.timeout(400)
def test_a_sweep_whose_load_generator_is_stopped_now_and_then_does_not_pass_with_too_low_a_rate(tmp_path: Path) -> None:
    """The capacity is 20 per second. The load generator is stopped for 30 to 280 ms at random."""
    sweep = {"minRate": 8.0, "maxRate": 60.0, "stepSeconds": 3.0, "precision": 0.3}
    load = {"sweep": sweep, "arrivals": "constant", "durationSeconds": 90.0}
    objectives = [
        {"metric": "TTFT", "threshold": 0.25, "percentile": 95},
        {"metric": "ErrorRate", "threshold": 0.01},
    ]
    with (
        known_latency_process("--ttft=100ms", "--tokens=1", "--capacity=20") as server,
        running_load(tmp_path, server.url, load, objectives=objectives) as running,
    ):
        wait_until(lambda: running.answers > 0)
        disturb(running)
        summary = running.result().summary
    assert summary["maxLagP99Seconds"] > 0.03
    found = summary["sweep"]
    is_right = found["rate"] is not None and found["low"] <= 20 <= found["high"]
    assert outcome(summary) == ("Invalid", "ClientLimited") or (summary["verdict"] == "Passed" and is_right), summary[
        "message"
    ]
    if summary["verdict"] == "Passed":
        assert "delay of the load generator's event loop" in summary["message"]


def disturb(running: RunningLoad) -> None:
    """Stop the load generator again and again, until its run has ended."""
    chooser = random.Random(3)
    while running.is_running:
        with suppress(ProcessLookupError):
            os.kill(running.process.pid, signal.SIGSTOP)
            time.sleep(chooser.uniform(0.03, 0.28))
            os.kill(running.process.pid, signal.SIGCONT)
        time.sleep(chooser.uniform(0.5, 2.0))
