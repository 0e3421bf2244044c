"""A hung Ollama as clients, metrics, probes and the restart file show it: the sidecar against the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, RequestRecord, SidecarConfig, StallConfig
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.ollama.client import Description, Ollama
from support.servers import RunningSimulator, StartSidecar, StartSimulator
from support.waiting import eventually

MODEL = "simulated:latest"
AFTER = 1.0
CHAT: dict[str, Any] = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}
PATHS = ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"]


class Hung:
    """A sidecar whose Ollama can hang."""

    def __init__(self, http: aiohttp.ClientSession, simulator: RunningSimulator, sidecar: Sidecar) -> None:
        self.http, self.simulator, self.sidecar = http, simulator, sidecar
        self.requests = 0

    async def ask(self, path: str = "/api/chat", **fields: Any) -> tuple[int, bytes, Any, str]:
        """Send a request, and return status, body, headers and request ID."""
        self.requests += 1
        request_id = f"mine-{self.requests}"
        body = {**CHAT, "max_tokens": 50, "input": "hello", **fields}
        url = f"http://127.0.0.1:{self.sidecar.port}{path}"
        async with self.http.post(url, json=body, headers={"X-Request-ID": request_id}) as response:
            return response.status, await response.read(), response.headers, request_id

    def record(self, request_id: str) -> RequestRecord:
        (record,) = self.sidecar.runtime.meter.find(request_id)
        return record

    async def page(self, path: str) -> str:
        async with self.http.get(f"http://127.0.0.1:{self.sidecar.admin_port}{path}") as response:
            return await response.text()

    async def metric(self, name: str) -> float:
        found = re.search(rf"^llmendpoint_{name} (\S+)$", await self.page("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def has_counted(self, name: str) -> None:
        """Wait until a counter is more than 0."""
        async with asyncio.timeout(30):
            while not await self.metric(name):  # noqa: ASYNC110 - the metrics are behind HTTP
                await asyncio.sleep(0.02)

    async def has_begun(self) -> None:
        """Wait until the last request has a part of its response."""
        simulator = self.simulator.simulator
        await eventually(lambda: simulator.in_flight > 0 and simulator.ledger.entries[-1].sent > 0)

    async def is_noticed(self) -> None:
        await eventually(lambda: self.sidecar.status().stalled is not None)


@pytest.fixture
async def hung(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> Hung:  # fmt: skip
    """A sidecar in front of a simulator that has answered, with two slots."""
    simulator = await start_simulator(parallel=2, inter_token=0.02, tokens=50)
    config = SidecarConfig(models=(DeclaredModel(MODEL),))
    sidecar = await start_sidecar(simulator.port, config, stall_after=AFTER, parallel=2)
    one = Hung(http, simulator, sidecar)
    await eventually(lambda: sidecar.status().ready)
    # Two streams at once show that the model has two slots.
    for status, *_ in await asyncio.gather(one.ask(), one.ask()):
        assert status == 200
    return one


def error_of(path: str, body: bytes) -> str:
    """Return the message in an error response, by the format of its API."""
    error = json.loads(body)["error"]
    return str(error if path.startswith("/api/") else error["message"])


@pytest.mark.parametrize("path", PATHS)
async def test_a_waiting_client_gets_an_error_in_the_format_of_its_api(hung: Hung, path: str) -> None:
    hung.simulator.behave(fault="hang")
    status, body, headers, request_id = await asyncio.wait_for(hung.ask(path), 60)
    assert status == 504
    assert "hung" in error_of(path, body)
    assert headers["Retry-After"] == "30"
    record = hung.record(request_id)
    assert (record.code, record.outcome, record.refusal_reason) == (504, "upstream_timeout", "ollama_hung")
    assert record.model_name == MODEL


STREAM_ENDS = {
    "/api/chat": lambda end: json.loads(end)["error"],
    "/v1/chat/completions": lambda end: json.loads(end.removeprefix(b"data: "))["error"]["message"],
    "/v1/messages": lambda end: json.loads(end.removeprefix(b"event: error\ndata: "))["error"]["message"],
    "/v1/responses": lambda end: json.loads(end.removeprefix(b"event: error\ndata: "))["message"],
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_ends_with_an_error_event_of_its_api(hung: Hung, path: str) -> None:
    asking = asyncio.create_task(hung.ask(path, stream=True))
    await hung.has_begun()
    hung.simulator.behave(fault="hang")
    status, body, _, request_id = await asyncio.wait_for(asking, 60)
    assert status == 200
    separator = b"\n" if path == "/api/chat" else b"\n\n"
    assert body.endswith(separator)
    assert "hung" in STREAM_ENDS[path](body.removesuffix(separator).rpartition(separator)[2])
    record = hung.record(request_id)
    assert (record.code, record.outcome, record.refusal_reason) == (200, "upstream_timeout", "ollama_hung")


async def test_while_ollama_is_hung_everything_says_so_and_new_requests_are_refused(hung: Hung) -> None:
    hung.simulator.behave(fault="hang")
    await hung.ask()
    await hung.is_noticed()
    status, body, headers, request_id = await hung.ask("/v1/chat/completions")
    assert (status, headers["Retry-After"]) == (503, "30")
    assert "hung" in error_of("/v1/", body)
    record = hung.record(request_id)
    assert (record.outcome, record.refusal_reason) == ("upstream_unreachable", "ollama_hung")
    stalled = hung.sidecar.status().stalled
    assert stalled is not None
    assert MODEL in stalled.message
    assert "Restart Ollama" in stalled.message
    assert not hung.sidecar.status().ready
    assert "Ollama is hung" in await hung.page("/readyz")
    assert await hung.page("/livez") == "ok\n"
    assert await hung.metric("upstream_stalled") == 1
    assert await hung.metric("upstream_stalls_total") == 1
    await hung.has_counted(r'upstream_tests_total\{result="no_answer"\}')
    # Reading is not refused.
    async with hung.http.get(f"http://127.0.0.1:{hung.sidecar.port}/api/tags") as response:
        assert response.status == 200


async def test_the_log_says_what_the_model_is_asked(hung: Hung, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    hung.simulator.behave(fault="hang")
    await hung.ask()
    await hung.is_noticed()
    assert caplog.text.count(f"asking {MODEL} for one token") == 1


async def test_the_log_speaks_of_no_question_if_ollama_lists_no_capabilities(
    hung: Hung, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and foreign servers do not list them."""

    async def nothing(*_: object) -> Description:
        return Description()

    monkeypatch.setattr(Ollama, "described", nothing)
    caplog.set_level(logging.INFO)
    hung.simulator.behave(fault="hang")
    await hung.ask()
    await eventually(lambda: f"it does not say what {MODEL} can be asked" in caplog.text)
    assert "for one token" not in caplog.text
    assert await hung.metric(r'upstream_tests_total\{result="failed"\}') >= 1


async def test_an_answer_ends_the_hang_and_questions_are_not_counted_as_requests(hung: Hung) -> None:
    hung.simulator.behave(fault="hang")
    await hung.ask()
    await hung.is_noticed()
    requests = hung.sidecar.status().totals.requests
    hung.simulator.behave(fault="none")
    await eventually(lambda: hung.sidecar.status().ready)
    assert hung.sidecar.status().totals.requests == requests
    assert await hung.metric("upstream_stalled") == 0
    assert (await hung.ask())[0] == 200


@pytest.mark.parametrize("fields", [{"stream": False}, {"stream": True}])
async def test_a_slow_prefill_is_answered(hung: Hung, fields: dict[str, bool]) -> None:
    """It is longer than the time after which the model is asked, and than the time for its answer."""
    hung.simulator.behave(ttft=0.8 * AFTER, tokens=2)
    status, *_ = await hung.ask("/api/chat", **fields)
    assert status == 200
    assert await hung.metric("upstream_stalls_total") == 0


async def test_a_load_and_a_pull_are_not_a_hang(hung: Hung) -> None:
    hung.simulator.behave(load=0.8 * AFTER, pull=3 * AFTER, registry=["other:1b"])
    async with hung.http.post(f"{hung.simulator.url}/api/generate", json={"model": MODEL, "keep_alive": 0}) as response:
        await response.read()
    pulling = asyncio.create_task(hung.ask("/api/pull", model="other:1b"))
    assert (await hung.ask())[0] == 200
    assert (await pulling)[0] == 200
    assert await hung.metric("upstream_stalls_total") == 0


async def test_a_client_that_does_not_read_is_not_a_hang(hung: Hung) -> None:
    hung.simulator.behave(tokens=200_000, inter_token=0.0, tokens_per_chunk=100)
    reader, writer = await asyncio.open_connection("127.0.0.1", hung.sidecar.port, limit=1024)
    body = json.dumps({**CHAT, "stream": True}).encode()
    writer.write(b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readexactly(100)
    await asyncio.sleep(3 * AFTER)
    assert await hung.metric("upstream_stalls_total") == 0
    assert await hung.metric(r'upstream_tests_total\{result="answered"\}') == 0
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_the_limit_is_reloaded_without_a_restart(hung: Hung) -> None:
    models = hung.sidecar.inputs.current.config.models
    hung.sidecar.configure(Inputs(SidecarConfig(models=models, allowed_hosts=("*",), stall=StallConfig("1h"))))
    hung.simulator.behave(fault="hang")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hung.ask(), 3 * AFTER)
    assert hung.sidecar.status().stalled is None
    hung.sidecar.configure(Inputs(SidecarConfig(models=models, allowed_hosts=("*",), stall=StallConfig("1s"))))
    assert (await asyncio.wait_for(hung.ask(), 60))[0] == 504


@pytest.mark.parametrize("after", ["5", "500ms", "", "-1s"])
def test_a_limit_that_is_no_duration_or_too_short_is_refused(after: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.stall"):
        msgspec.json.decode(json.dumps({"stall": {"after": after}}), type=SidecarConfig)


async def test_a_restart_is_requested_with_a_file_until_ollama_has_ended(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    simulator = await start_simulator(tokens=3)
    file = tmp_path / "restart-ollama"
    file.touch()
    config = SidecarConfig(models=(DeclaredModel(MODEL),))
    sidecar = await start_sidecar(simulator.port, config, stall_after=AFTER, stall_restart_file=file)
    one = Hung(http, simulator, sidecar)
    await eventually(lambda: sidecar.status().ready)
    # The file of a sidecar that was killed.
    await eventually(lambda: not file.exists())
    simulator.behave(fault="hang")
    status, _, headers, _ = await asyncio.wait_for(one.ask(), 60)
    assert (status, headers["Retry-After"]) == (504, "10")
    await eventually(file.exists)
    # What kubelet does: the process ends, and another one begins, without models in memory.
    await simulator.simulator.stop()
    await eventually(lambda: not file.exists())
    assert not sidecar.status().ready
    successor = await start_simulator(tokens=3, port=simulator.port)
    await eventually(lambda: sidecar.status().ready)
    assert sidecar.status().models[0].loaded
    assert successor.simulator.ledger.entries
    assert await one.metric("upstream_restarts_total") == 1
    assert (await one.ask())[0] == 200


async def test_clients_with_short_timeouts_do_not_hide_a_hang(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    """They never leave the only slot free. New requests are refused until the slot is free for a question."""
    simulator = await start_simulator(tokens=3)
    sidecar = await start_sidecar(simulator.port, SidecarConfig(models=(DeclaredModel(MODEL),)), stall_after=AFTER)
    one = Hung(http, simulator, sidecar)
    await eventually(lambda: sidecar.status().ready)
    simulator.behave(fault="hang")
    statuses: list[int] = []

    async def retry(index: int) -> None:
        # One of them always waits.
        await asyncio.sleep(0.13 * index)
        while sidecar.status().stalled is None:
            with contextlib.suppress(TimeoutError):
                statuses.append((await asyncio.wait_for(one.ask(), 0.4))[0])
            await asyncio.sleep(0.01)

    await asyncio.wait_for(asyncio.gather(*map(retry, range(3))), 60)
    assert 503 in statuses
    assert "did not answer a test" in sidecar.status().stalled.message  # type: ignore[union-attr]
    simulator.behave(fault="none")
    await eventually(lambda: sidecar.status().ready)
    assert (await one.ask())[0] == 200
