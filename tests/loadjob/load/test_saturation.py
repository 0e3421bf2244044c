"""The detector of saturation against queues whose capacity is known: its false alarms, and what it finds."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from llmendpoint_loadjob.load.saturation import FALSE_ALARM_RATE, Growth, SaturationDetector

Law = Callable[[random.Random], float]


def exponential(source: random.Random) -> float:
    return source.expovariate(1.0)


def constant(source: random.Random) -> float:
    return 1.0


def queue(
    utilization: float,
    servers: int,
    seed: int,
    gaps: Law = exponential,
    service: Law = exponential,
    requests: int = 2000,
) -> tuple[int, Growth] | None:
    """Return the number of the request at which a queue was found saturated, and how it grew, or None.

    Requests take 1 s on average, and wait in the order in which they came.
    """
    source = random.Random(seed)
    detector = SaturationDetector(0.0 if gaps is constant else 1.0)
    free, ends = [0.0] * servers, list[tuple[float, int, float, float]]()
    at = 0.0
    for number in range(requests):
        at += gaps(source) / (utilization * servers)
        while ends and ends[0][0] <= at:
            _, ended, latency, ttft = heapq.heappop(ends)
            detector.ended(ended, latency, ttft)
            growth = detector.check()
            if growth is not None:
                return ended, growth
        detector.due(at, len(ends) + 1)
        seconds = service(source)
        begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + seconds)
        heapq.heappush(ends, (begin + seconds, number, begin + seconds - at, begin - at + 0.1 * seconds))
    return None


@pytest.mark.parametrize("utilization", [0.5, 0.9, 1.0])
def test_false_alarms_are_as_rare_as_stated(utilization: float) -> None:
    """At a utilization of 1 the server can just follow, which is the worst case."""
    runs = [queue(utilization, servers, seed) for servers in (1, 8) for seed in range(50)]
    assert sum(found is not None for found in runs) <= 2 * FALSE_ALARM_RATE * len(runs)


@pytest.mark.parametrize(
    ("utilization", "gaps", "service", "limit"),
    [(2.0, exponential, exponential, 130), (1.5, exponential, exponential, 400), (1.5, constant, constant, 130),
     (1.2, constant, constant, 800)],
)  # fmt: skip
def test_an_overload_is_found_in_so_many_requests(utilization: float, gaps: Law, service: Law, limit: int) -> None:
    found = [queue(utilization, 8, seed, gaps, service) for seed in range(10)]
    numbers = sorted(item[0] for item in found if item is not None)
    assert len(numbers) == 10
    assert numbers[5] <= limit


def test_the_sentence_says_what_grew() -> None:
    found = queue(2.0, 8, 1, constant, constant)
    assert found is not None
    assert found[1].sentence == (
        "in 4s, the requests in flight grew from 4 to 36, and the time to first token from 350ms to 3.35s"
    )


def test_a_server_that_refuses_requests_as_too_many_is_saturated() -> None:
    detector = SaturationDetector(0.0)
    growth = None
    for number in range(200):
        detector.due(number / 10, 1)
        detector.ended(number, 0.01, None, is_refused=number % 3 == 0)
        growth = growth or detector.check()
    assert growth is not None
    assert "refused 3" in growth.sentence


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    detector = SaturationDetector(1.0)
    for number in range(50_000):
        detector.due(float(number), 1)
        detector.ended(number, 1.0, 0.1)
    assert len(detector._cohorts) <= 64


def paused(pause: float, capacity: float) -> Growth | None:
    """Return the saturation that is found if the load generator pauses for some seconds, after 400 requests of 1,600.

    25 requests per second are due at equal distances. The server answers one after the other.
    """
    detector = SaturationDetector(0.0)
    free, ends = 0.0, list[tuple[float, int, float, float]]()
    begin = 400 / 25
    for number in range(1600):
        at = number / 25
        sent = max(at, begin + pause) if at >= begin else at
        free = max(free, sent) + 1 / capacity
        while ends and ends[0][0] <= sent:
            _, ended, latency, own_delay = heapq.heappop(ends)
            detector.ended(ended, latency, latency, own_delay=own_delay)
            growth = detector.check()
            if growth is not None:
                return growth
        detector.due(at, len(ends) + 1)
        heapq.heappush(ends, (free, number, free - at, sent - at))
    return None


@pytest.mark.parametrize("pause", [0.5, 2.0, 5.0, 10.0])
def test_a_pause_of_the_load_generator_is_not_the_limit_of_the_server(pause: float) -> None:
    assert paused(pause, 40) is None
    assert paused(pause, 26) is None


def test_an_overload_is_found_after_a_pause_of_the_load_generator() -> None:
    found = paused(2.0, 20)
    assert found is not None
    assert found.latency[1] - found.latency[0] > 2.0
