"""Progress of a pull: percent, speed and remaining time, with a clock of the test."""

from __future__ import annotations

from llmendpoint_sidecar.agent.progress import PullTotals
from llmendpoint_sidecar.ollama.client import PullProgress
from support.clock import Clock

MB = 1_000_000


def layer(completed: int, total: int = 100 * MB, digest: str = "sha256:a") -> PullProgress:
    return PullProgress("pulling a", digest, total, completed)


def test_speed_and_remaining_time_follow_from_the_bytes() -> None:
    clock = Clock()
    totals = PullTotals(clock)
    assert (totals.done, totals.total) == (0, 0)
    totals.update(layer(0))
    for _ in range(5):
        clock.now += 1
        message = totals.update(layer(int(4 * MB * (clock.now - Clock().now))))
    assert message == "pulled 20.0 MB of 100.0 MB"
    assert (totals.percent, totals.bytes_per_second, totals.remaining_seconds) == (20, 4 * MB, 20)


def test_bytes_of_an_earlier_pull_are_progress_and_not_speed() -> None:
    clock = Clock()
    totals = PullTotals(clock)
    totals.update(layer(90 * MB))
    clock.now += 1
    totals.update(layer(91 * MB))
    assert (totals.percent, totals.bytes_per_second, totals.remaining_seconds) == (91, MB, 9)


def test_a_pull_that_stops_loses_its_speed() -> None:
    clock = Clock()
    totals = PullTotals(clock)
    totals.update(layer(0))
    clock.now += 1
    totals.update(layer(10 * MB))
    clock.now += 60
    totals.update(layer(10 * MB))
    clock.now += 15
    totals.update(layer(10 * MB))
    assert (totals.bytes_per_second, totals.remaining_seconds) == (0, 0)


def test_only_success_is_100_percent() -> None:
    totals = PullTotals(Clock())
    totals.update(layer(100 * MB))
    assert totals.percent == 99
    totals.update(PullProgress("success"))
    assert totals.percent == 100
