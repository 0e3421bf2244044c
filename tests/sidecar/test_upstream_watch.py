"""What the sidecar says of Ollama while it asks."""

from __future__ import annotations

import logging

import aiohttp
import pytest

from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.ollama.client import ListedModel, LoadedModel, Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch
from support.servers import StartSidecar
from support.waiting import eventually
from support.wire.fault_server import answering, fault_server, plain


class WatchedOllama(Ollama):
    """An Ollama that notes what is said of it when it is asked for its models."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.watch = UpstreamWatch(self, ModelLabels(lambda: None), 1.0)
        self.said: list[tuple[bool, str]] = []

    async def version(self) -> str:
        return "0.17.4"

    async def listed(self) -> list[ListedModel]:
        self.said.append((self.watch.up, self.watch.version))
        return []

    async def loaded(self) -> list[LoadedModel]:
        return []


async def test_a_version_is_only_told_of_an_ollama_that_is_up() -> None:
    ollama = WatchedOllama()
    for _ in range(2):
        await ollama.watch.poll()
    assert ollama.said == [(False, ""), (True, "0.17.4")]
    ollama.watch.lost()
    assert (ollama.watch.up, ollama.watch.version) == (False, "")


async def test_the_log_names_the_version_of_an_ollama_that_has_come_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llmendpoint_sidecar")
    await WatchedOllama().watch.poll()
    assert "upstream is up: Ollama 0.17.4" in caplog.messages


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (
            plain("404 Not Found", b"{}"),
            "what answers at WHERE is not Ollama: GET /api/version was answered with HTTP 404",
        ),
        (
            plain("200 OK", b"<html>"),
            "what answers at WHERE is not Ollama: GET /api/version was answered with HTTP 200",
        ),
        (b"220 mail.example\r\n", "what answers at WHERE is not Ollama: the answer is not HTTP ("),
        (plain("508 Loop Detected", b"{}"), "the upstream WHERE leads back to the proxy, so that no request reaches"),
    ],
)
async def test_the_sidecar_says_what_answers_if_it_is_not_ollama(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession, parts: bytes, problem: str
) -> None:
    async with fault_server(answering(parts, close=True)) as server:
        sidecar = await start_sidecar(server.port)
        expected = problem.replace("WHERE", f"127.0.0.1:{server.port}")
        await eventually(lambda: sidecar.status().upstream_problem.startswith(expected))
        async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/readyz") as response:
            assert (await response.text()).startswith(f"not ready: {expected}")
        server.behave = answering(plain("200 OK", b'{"version": "0.17.4", "models": []}'))
        await eventually(lambda: sidecar.status().ready)
        assert not sidecar.status().upstream_problem
