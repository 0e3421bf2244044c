"""Statuses of pods that answer anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, ModelPhase, ModelStatus, SidecarStatus, Totals
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_common.process.units import Address
from llmendpoint_operator.cluster.pod_status import PodStatuses, Silence

ADDRESS = "127.77.5.1"
POD = {"metadata": {"name": "p"}, "status": {"podIP": ADDRESS}}
Answer = Callable[[web.Request], Any]


def sidecar(**model: Any) -> dict[str, Any]:
    status = SidecarStatus("1", True, False, True, "0.17.4", (ModelStatus("tiny:latest", ModelPhase.READY),), Totals())
    body = dict(msgspec.to_builtins(status))
    body["models"] = [{**body["models"][0], **model}]
    return body


class Server:
    """A pod whose `/status` returns `body`, in pieces."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.pieces = 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers={"Location": f"http://{ADDRESS}:1/"})
        await response.prepare(request)
        size = max(1, -(-len(self.body) // self.pieces))
        for start in range(0, len(self.body), size):
            await response.write(self.body[start : start + size])
            await asyncio.sleep(0)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server, application = Server(), web.Application()
    application.router.add_get("/status", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    for sock in bind_sockets(Address(ADDRESS, ADMIN_PORT)):
        await web.SockSite(runner, sock).start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def statuses() -> AsyncIterator[PodStatuses]:
    statuses = PodStatuses()
    yield statuses
    await statuses.close()


async def test_a_status_that_arrives_in_pieces_is_complete(server: Server, statuses: PodStatuses) -> None:
    server.body, server.pieces = json.dumps(sidecar(message="x" * 200_000)).encode(), 200
    status = await statuses.sidecar(POD)
    assert isinstance(status, SidecarStatus)
    assert len(status.models[0].message) == 200_000


@pytest.mark.parametrize(
    "change",
    [
        {"sizeBytes": -1},
        {"vramBytes": 2**64},
        {"loadedBytes": 10**30},
        {"progressPercent": 101},
        {"reason": "not a reason"},
        {"reason": "x" * 65},
        {"digest": "x" * 129},
        {"phase": "Dancing"},
        {"message": None},
    ],
)
async def test_a_status_that_does_not_fit_is_no_status(
    server: Server, statuses: PodStatuses, change: dict[str, Any]
) -> None:
    server.body = json.dumps(sidecar()).encode()
    assert isinstance(await statuses.sidecar(POD), SidecarStatus)
    server.body = json.dumps(sidecar(**change)).encode()
    assert isinstance(await statuses.sidecar(POD), Silence)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b'{"version": "\\ud800"}', b"[" * 200_000, b'{"x": ' + b"[" * 200_000, b" " * 3 * 2**20],
)
async def test_garbage_is_no_status(server: Server, statuses: PodStatuses, body: bytes) -> None:
    server.body = body
    assert isinstance(await statuses.sidecar(POD), Silence)
    assert await statuses.load(POD) is None


async def test_only_an_answer_of_the_pod_itself_counts(server: Server, statuses: PodStatuses) -> None:
    server.body = json.dumps(sidecar()).encode()
    for server.status in (302, 404, 500):
        silence = await statuses.sidecar(POD)
        assert isinstance(silence, Silence)
        assert silence.error == f"HTTP {server.status}"


async def test_a_pod_that_cannot_be_reached_says_where_and_why(statuses: PodStatuses) -> None:
    nobody = {"status": {"podIP": "127.77.3.99"}}
    assert await statuses.sidecar(nobody) == Silence("http://127.77.3.99:8001/status", "Connection refused")
    assert await statuses.load(nobody) is None


async def test_a_pod_without_an_address_is_not_asked(statuses: PodStatuses) -> None:
    assert await statuses.sidecar({"status": {}}) is None


async def test_progress_has_bounds(server: Server, statuses: PodStatuses) -> None:
    progress = msgspec.to_builtins(Progress(5, 1, 0, 1, 9, 0.5))
    server.body = json.dumps(progress).encode()
    assert await statuses.load(POD) == Progress(5, 1, 0, 1, 9, 0.5)
    server.body = json.dumps({**progress, "percent": 10**9}).encode()
    assert await statuses.load(POD) is None
