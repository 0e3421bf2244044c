"""Turns of bodies that are read in slices."""

from __future__ import annotations

import asyncio

import pytest

from llmendpoint_sidecar.policy.reading_queue import ReadingQueue


class Clock:
    """A clock that a reading moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Body:
    """A body of some parts, each of which takes 2 ms of virtual time."""

    def __init__(self, clock: Clock, log: list[str], tenant: str, parts: int) -> None:
        self.tenant = tenant
        self._clock, self._log, self._left = clock, log, parts

    def read_on(self) -> bool:
        self._clock.now += 0.002
        self._left -= 1
        if self._left < 0:
            raise ValueError("broken")
        return self._left > 0

    def read_done(self) -> None:
        self._log.append(self.tenant)

    def read_failed(self) -> None:
        self._log.append(f"{self.tenant} failed")


async def turns(until: int, log: list[str]) -> int:
    """Run the event loop until so many bodies have ended, and return the number of its turns."""
    count = 0
    while len(log) < until:
        count += 1
        await asyncio.sleep(0)
    return count


async def test_a_long_body_leaves_the_event_loop_after_each_slice() -> None:
    clock, log = Clock(), list[str]()
    queue = ReadingQueue(1, clock)
    queue.add(Body(clock, log, "a", 30))  # 60 ms
    assert 10 <= await turns(1, log) <= 12


async def test_tenants_take_turns_whatever_one_of_them_sends() -> None:
    clock, log = Clock(), list[str]()
    queue = ReadingQueue(2, clock)
    for _ in range(50):
        queue.add(Body(clock, log, "a", 30))
    queue.add(Body(clock, log, "b", 30))
    queue.add(Body(clock, log, "c", 3))
    await turns(52, log)
    assert log.index("b") <= 4
    assert log.index("c") <= 4


async def test_a_body_that_is_discarded_frees_its_place() -> None:
    clock, log = Clock(), list[str]()
    queue = ReadingQueue(1, clock)
    bodies = [Body(clock, log, tenant, 3) for tenant in "aabc"]
    for body in bodies:
        queue.add(body)
    queue.discard(bodies[0])
    queue.discard(bodies[3])
    queue.discard(bodies[3])
    await turns(2, log)
    assert sorted(log) == ["a", "b"]
    queue.discard(bodies[1])
    queue.add(bodies[3])
    await turns(3, log)
    assert log[2:] == ["c"]


async def test_a_body_that_cannot_be_read_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    clock, log = Clock(), list[str]()
    queue = ReadingQueue(1, clock)
    queue.add(Body(clock, log, "a", 0))
    queue.add(Body(clock, log, "b", 1))
    await turns(2, log)
    assert log == ["a failed", "b"]
    assert "could not be read" in caplog.text
