"""The operator and the barriers of real load pods, over real connections: the pods start within 50 ms of each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from llmendpoint_common.contracts.loadrun import STATUS_PORT, Progress, StartState
from llmendpoint_loadjob.barrier import Barrier
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest import starter
from llmendpoint_operator.loadtest.progress import RunProgress

OWNER = Owner("LoadTest", "ns", "smoke", "uid-run")
PODS = 4


def pod(index: int) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    address = f"127.78.{index}.1"
    return {"metadata": {"name": f"smoke-{index}", "labels": labels}, "status": {"podIP": address}}


@asynccontextmanager
async def load_pod(index: int) -> AsyncIterator[Barrier]:
    """Serve the barrier of a load pod, and its `/status`, at the address of the pod."""
    barrier = Barrier(f"ns/smoke-result-{index}")

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(Progress(0, 0, 0, 0, 0, 0.0, start=barrier.state)))

    application = web.Application()
    application.add_routes([web.get("/status", status), barrier.route()])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, f"127.78.{index}.1", STATUS_PORT).start()
    try:
        yield barrier
    finally:
        await runner.cleanup()


@pytest.mark.alone
async def test_pods_start_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "LEAD_SECONDS", 0.5)
    statuses, pods = PodStatuses(), [pod(index) for index in range(PODS)]
    operator = starter.Starter(statuses)
    started: dict[int, float] = {}

    async def wait(index: int, barrier: Barrier) -> None:
        await barrier.wait()
        started[index] = time.monotonic()

    async with AsyncExitStack() as stack:
        barriers = [await stack.enter_async_context(load_pod(index)) for index in range(PODS)]
        preparing = RunProgress(pods, await operator.ask(pods), PODS)
        assert await operator.start(OWNER, preparing) == f"0 of {PODS} pods are ready to start."
        waiting = [asyncio.create_task(wait(index, barrier)) for index, barrier in enumerate(barriers)]
        await asyncio.sleep(0)
        ready = RunProgress(pods, await operator.ask(pods), PODS)
        assert [answer.start for answer in ready.known] == [StartState.READY] * PODS
        assert await operator.start(OWNER, ready) == ""
        await asyncio.gather(*waiting)
        assert RunProgress(pods, await operator.ask(pods), PODS).has_begun
    assert max(started.values()) - min(started.values()) < 0.05
    await statuses.close()


async def test_a_pod_that_does_not_exist_any_more_is_named() -> None:
    statuses, pods = PodStatuses(), [pod(0), pod(1)]
    operator = starter.Starter(statuses)
    async with load_pod(0):
        progress = RunProgress(pods, await operator.ask(pods), 2)
        assert "cannot reach pod smoke-1 on port 8001" in await operator.start(OWNER, progress)
    await statuses.close()
