"""The work queue: one worker per key, no lost events, and retries with backoff."""

from __future__ import annotations

import asyncio

import pytest

from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.reconcile.workqueue import WorkQueue
from support.waiting import eventually

A, B = Key("LLMEndpoint", "ns", "a"), Key("LLMEndpoint", "ns", "b")


async def test_a_mark_during_work_is_not_lost_and_work_never_overlaps() -> None:
    busy: set[Key] = set()
    done: list[Key] = []
    gate = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        assert key not in busy
        busy.add(key)
        await gate.wait()
        busy.discard(key)
        done.append(key)
        return None

    queue = WorkQueue(reconcile)
    for _ in range(5):
        queue.mark(A)
    queue.mark(B)
    await eventually(lambda: busy == {A, B})
    queue.mark(A)
    queue.mark(A)
    gate.set()
    await eventually(lambda: queue.depth == 0 and not busy)
    assert sorted(done) == [A, A, B]
    await queue.close()


async def test_a_failure_is_tried_again_and_others_go_on() -> None:
    tries: dict[Key, int] = {}

    async def reconcile(key: Key) -> float | None:
        tries[key] = tries.get(key, 0) + 1
        if key == A and tries[A] == 1:
            raise OSError("API server away")
        return None

    queue = WorkQueue(reconcile)
    queue.mark(A)
    queue.mark(B)
    await eventually(lambda: tries == {A: 2, B: 1})
    assert queue.errors == 1
    await queue.close()


async def test_a_key_is_looked_at_again_when_its_time_comes() -> None:
    looks: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        looks.append(key)
        return 0.01 if len(looks) < 3 else None

    queue = WorkQueue(reconcile)
    queue.mark(A)
    await eventually(lambda: len(looks) == 3)
    await queue.close()


async def test_keys_that_hang_delay_no_other_key() -> None:
    hanging = {Key("LLMEndpoint", "ns", f"hangs-{index}") for index in range(100)}
    done: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        if key in hanging:
            await asyncio.Event().wait()
        done.append(key)
        return None

    queue = WorkQueue(reconcile)
    for key in (*hanging, A):
        queue.mark(key)
    await eventually(lambda: done == [A])
    await queue.close()


async def test_retries_back_off_for_each_key(caplog: pytest.LogCaptureFixture) -> None:
    async def reconcile(key: Key) -> float | None:
        raise OSError("away")

    queue = WorkQueue(reconcile)
    for _ in range(3):
        queue.mark(A)
        await eventually(lambda: queue.depth == 0 and not queue._running)
    queue.mark(B)
    await eventually(lambda: queue.errors == 4)
    await queue.close()
    pauses = [record.getMessage().rpartition("next attempt in ")[2] for record in caplog.records]
    assert pauses == ["0.5 s)", "1 s)", "2 s)", "0.5 s)"]
