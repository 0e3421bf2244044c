"""The end of kopf's thread: when kopf fails, when it is asked to stop, and when it hangs."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from llmendpoint_operator.watching import kopf_thread
from llmendpoint_operator.watching.kopf_thread import KopfThread

# A kopf that is ended by force leaves coroutines behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POD_ID", "test")
    yield
    # What it leaves behind belongs to this test, and not to a later one.
    gc.collect()


def configure(settings: kopf.OperatorSettings) -> None:
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None


def registry_with(startup: Any) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.startup(registry=registry)(startup)
    return registry


async def test_it_ends_with_the_error_of_kopf() -> None:
    async def fail(**_: Any) -> None:
        await asyncio.sleep(0.01)  # kopf starts its tasks
        raise kopf.PermanentError("no")

    ended = asyncio.Event()
    thread = KopfThread(registry_with(fail), configure, "", ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    assert "fail" in str(thread.error)
    await thread.end()


async def test_it_ends_when_asked_to() -> None:
    started = threading.Event()

    async def start(**_: Any) -> None:
        started.set()

    thread = KopfThread(registry_with(start), configure, "", lambda: None)
    await asyncio.to_thread(started.wait, 10)
    await thread.end()
    assert thread.ended.is_set()


async def test_it_ends_by_force_if_a_task_of_kopf_ignores_its_cancellation() -> None:
    """kopf's watchers can swallow a cancellation, and `kopf.run_tasks` would then wait for them without end."""
    hung = threading.Event()

    async def hang() -> None:
        while True:
            try:
                hung.set()
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def start(**_: Any) -> None:
        tasks.append(asyncio.get_running_loop().create_task(hang()))

    tasks: list[asyncio.Task[None]] = []
    thread = KopfThread(registry_with(start), configure, "", lambda: None)
    await asyncio.to_thread(hung.wait, 10)
    began = time.monotonic()
    await thread.end()
    assert thread.ended.is_set()
    assert time.monotonic() - began < 5


async def test_it_is_left_behind_if_its_event_loop_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kopf_thread, "_CANCEL_SECONDS", 0.1)
    monkeypatch.setattr(kopf_thread, "_FORCE_SECONDS", 0.1)
    hung, release = threading.Event(), threading.Event()

    async def block(**_: Any) -> None:
        hung.set()
        release.wait(30)

    thread = KopfThread(registry_with(block), configure, "", lambda: None)
    try:
        await asyncio.to_thread(hung.wait, 10)
        await thread.end()
        assert not thread.ended.is_set()
        assert "left behind" in caplog.text
        # The interpreter does not wait for the thread.
        (left,) = [item for item in threading.enumerate() if item.name == "kopf"]
        assert left.daemon
    finally:
        release.set()
    await asyncio.wait_for(thread.ended.wait(), 10)
