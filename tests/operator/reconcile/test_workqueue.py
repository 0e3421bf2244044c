"""The work queue: one worker per key, no lost events, and retries with backoff."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator

import pytest

from llmendpoint_common.process.errors import NotLeaderError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_operator.cluster import slots
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.reconcile.measures import ERROR, INTERRUPTED
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
    assert queue.measures.reconciles["LLMEndpoint", ERROR] == 1
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
    now = 0.0
    queue = WorkQueue(_fail, clock=lambda: now)
    for _ in range(3):
        await _once(queue, A)
        now += 10
    await _once(queue, B)
    await queue.close()
    assert _pauses(caplog) == ["0.5 s)", "1 s)", "2 s)", "0.5 s)"]


async def test_failures_before_the_retry_is_due_do_not_delay_it(caplog: pytest.LogCaptureFixture) -> None:
    """Events can start several reconciles within milliseconds, and they fail for the same reason."""
    now = 0.0
    queue = WorkQueue(_fail, clock=lambda: now)
    for _ in range(6):
        await _once(queue, A)
        now += 0.01
    assert set(_pauses(caplog)) == {"0.5 s)"}
    # Events that do not end do not keep the delay short.
    while now < 10:
        await _once(queue, A)
        now += 0.3
    await queue.close()
    assert list(dict.fromkeys(_pauses(caplog))) == ["0.5 s)", "1 s)", "2 s)", "4 s)", "8 s)"]


async def _fail(_: Key) -> float | None:
    raise OSError("away")


async def _once(queue: WorkQueue, key: Key) -> None:
    before = queue.measures.reconciles["LLMEndpoint", ERROR]
    queue.mark(key)
    await eventually(lambda: queue.measures.reconciles["LLMEndpoint", ERROR] > before and not queue._running)


def _pauses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().rpartition("next attempt in ")[2] for record in caplog.records]


class Permission:
    """The namespaces to which this process may write."""

    def __init__(self) -> None:
        self.namespaces: set[str] = set()

    def __call__(self, key: Key) -> bool:
        return key.namespace in self.namespaces


async def test_keys_are_held_until_they_may_be_reconciled() -> None:
    done: list[Key] = []
    other = Key("LLMEndpoint", "other", "a")
    may = Permission()

    async def reconcile(key: Key) -> float | None:
        done.append(key)
        return None

    queue = WorkQueue(reconcile, may)
    for key in (A, B, other):
        queue.mark(key)
    await asyncio.sleep(0.01)
    assert done == []
    assert queue.depth == 0
    may.namespaces.add("ns")
    queue.recheck()
    await eventually(lambda: sorted(done) == [A, B])
    may.namespaces.add("other")
    queue.recheck()
    await eventually(lambda: other in done)
    await queue.close()


async def test_a_running_reconcile_is_stopped_when_it_may_no_longer_run_and_starts_again_later() -> None:
    started, stopped = 0, 0
    may = Permission()
    may.namespaces.add("ns")

    async def reconcile(key: Key) -> float | None:
        nonlocal started, stopped
        started += 1
        if started > 1:
            return None
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped += 1
            # Closing a connection takes a moment.
            await asyncio.sleep(0)
            raise
        return None

    queue = WorkQueue(reconcile, may)
    queue.mark(A)
    await eventually(lambda: started == 1)
    may.namespaces.clear()
    queue.recheck()
    # It may run again before the first worker has ended.
    may.namespaces.add("ns")
    queue.recheck()
    await eventually(lambda: started == 2)
    assert stopped == 1
    await eventually(lambda: queue.running == 0)
    assert queue.measures.reconciles["LLMEndpoint", INTERRUPTED] == 1
    await queue.close()


async def test_a_reconcile_whose_write_is_refused_for_leadership_comes_again_and_is_not_an_error() -> None:
    calls: list[Key] = []
    may = Permission()
    may.namespaces.add("ns")

    async def reconcile(key: Key) -> float | None:
        calls.append(key)
        if len(calls) == 1:
            raise NotLeaderError("another process")
        return None

    queue = WorkQueue(reconcile, may)
    queue.mark(A)
    await eventually(lambda: len(calls) == 1 and not queue.running)
    assert queue.measures.reconciles["LLMEndpoint", ERROR] == 0
    assert queue.measures.reconciles["LLMEndpoint", INTERRUPTED] == 1
    # Nobody has to say that it may be reconciled again: the interruption may have been shorter than anybody noticed.
    await eventually(lambda: len(calls) == 2)
    await queue.close()


async def test_a_burst_of_marks_leaves_time_for_other_work() -> None:
    """A thousand reconciles that compute for a while must not delay a probe by all of their time."""
    done = 0
    slow = 0.002

    async def reconcile(key: Key) -> float | None:
        nonlocal done
        end = time.monotonic() + slow
        while time.monotonic() < end:
            pass
        done += 1
        return None

    queue = WorkQueue(reconcile)
    for index in range(300):
        queue.mark(Key("LLMEndpoint", "ns", str(index)))
    turns = 0
    while done < 300:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 300 / 8
    await queue.close()


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Restores the handlers and the level of all logs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger")
async def test_lines_that_are_logged_in_a_reconcile_have_its_object(capsys: pytest.CaptureFixture[str]) -> None:
    async def reconcile(key: Key) -> float | None:
        await asyncio.sleep(0)
        logging.getLogger("some.library").warning("words about %s", key.name)
        return None

    configure_logs("info")
    queue = WorkQueue(reconcile)
    queue.mark(A)
    queue.mark(B)
    await eventually(lambda: sum(queue.measures.reconciles.values()) == 2)
    await queue.close()
    logging.getLogger("some.library").warning("outside")
    *lines, last = map(json.loads, capsys.readouterr().err.splitlines())
    assert [(line["kind"], line["namespace"], line["name"], line["message"]) for line in lines] == [
        ("LLMEndpoint", "ns", "a", "words about a"), ("LLMEndpoint", "ns", "b", "words about b"),
    ]  # fmt: skip
    assert len({line["reconcileID"] for line in lines}) == 2
    assert "reconcileID" not in last


async def test_a_bounded_number_of_reconciles_runs_and_one_that_hangs_is_not_counted() -> None:
    keys = [Key("LLMEndpoint", "ns", str(index)) for index in range(3 * slots.LIMIT)]
    begun: list[Key] = []
    gate = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        begun.append(key)
        if key in keys[: slots.LIMIT]:
            await gate.wait()
        return None

    queue = WorkQueue(reconcile)
    for key in keys:
        queue.mark(key)
    await eventually(lambda: len(begun) == slots.LIMIT)
    await asyncio.sleep(0)
    assert begun == keys[: slots.LIMIT]
    # The first ones get no response, so the others are served after `PATIENCE_SECONDS`, while they still hang.
    await eventually(lambda: begun == keys)
    assert queue.running == slots.LIMIT
    gate.set()
    await eventually(lambda: queue.running == 0)
    await queue.close()


async def test_a_reconcile_that_is_stopped_before_it_begins_gives_its_place_to_others() -> None:
    allowed = False
    done: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        done.append(key)
        return None

    queue = WorkQueue(reconcile, lambda key: key == B or allowed)
    held = [Key("LLMEndpoint", "ns", f"held-{index}") for index in range(slots.LIMIT)]
    for _ in range(slots.LIMIT):
        allowed = True
        for key in held:
            queue.mark(key)
        # One step of the event loop creates tasks, and the next one would begin them.
        await asyncio.sleep(0)
        assert queue.running > 0
        allowed = False
        queue.recheck()
    queue.mark(B)
    await eventually(lambda: B in done)
    assert done == [B]
    await queue.close()


async def test_long_delays_are_spread_so_that_resources_are_not_due_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays: list[float] = []

    async def reconcile(_: Key) -> float | None:
        return 30.0

    queue = WorkQueue(reconcile)
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def recorded(delay: float, *arguments: object, **options: object) -> asyncio.TimerHandle:
        if delay > 20:
            delays.append(delay)
        return call_later(delay, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", recorded)
    for index in range(50):
        queue.mark(Key("LLMEndpoint", "ns", str(index)))
    await eventually(lambda: len(delays) == 50)
    assert 24 <= min(delays) < 28
    assert 32 < max(delays) <= 36
    await queue.close()
