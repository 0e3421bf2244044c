"""How clients send API keys, and what they report if the proxy refuses a request: the tables of docs/tenants.md."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clients.conftest import address
from llmendpoint_common.contracts.sidecar import SidecarConfig, TenantConfig
from support.machine.client_programs import Results, Target, run_program
from support.machine.real_ollama import RealOllama
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

KEY = "key-of-team-a"

#: By program: the ways that do not work, with the status. None is an error of the client itself.
REFUSED: dict[str, dict[str, int | None]] = {
    "keys_sdk": {
        "ollama without a key": 401,
        "ollama user and password in the URL": 401,
        "ollama Basic": 401,
        "ollama bare key": 401,
        "openai for Azure": 401,
    },
    "keys.mjs": {
        "ollama OLLAMA_API_KEY": 401,
        "ollama user and password in the URL": None,
        "openai for Azure": 401,
    },
    "keys_frameworks": {"langchain user and password in the URL": 401, "litellm azure": 401},
}
PROGRAMS = ["keys_sdk", "keys.mjs", pytest.param("keys_frameworks", marks=pytest.mark.clients)]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_each_way_of_sending_a_key_works_or_is_refused_as_documented(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, keys: Path, tmp_path: Path, program: str
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, SidecarConfig(), keys=[keys])
    target = Target("sidecar", address(sidecar), "simulated", KEY)
    results = (await run_program(program, [target], tmp_path))["sidecar"]
    assert refused(results) == REFUSED[program]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"x-api-key": KEY}, 200),
        ({"Authorization": "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()}, 401),
        ({"Authorization": KEY}, 401),
        ({"api-key": KEY}, 401),
        ({"Cookie": f"token={KEY}"}, 401),
        ({}, 401),
    ],
)
async def test_forms_of_a_key(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, keys: Path, http: aiohttp.ClientSession,
    headers: dict[str, str], status: int,
) -> None:  # fmt: skip
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, SidecarConfig(), keys=[keys])
    async with http.get(f"{address(sidecar)}/api/tags?key={KEY}", headers=headers) as response:
        assert response.status == status
        assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


def refused(results: Results) -> dict[str, int | None]:
    """Return the calls that raised, with the status."""
    return {name: result["status"] for name, result in results.items() if "raised" in result}


LIMITS = SidecarConfig(
    tenants=(
        TenantConfig(name="team-a", allowed_models=("other",)),
        TenantConfig(name="team-b", requests_per_minute=1),
    ),
    max_waiting=1,
)
ERRORS = {
    401: ("ollama._types.ResponseError", "openai.AuthenticationError", "anthropic.AuthenticationError"),
    403: ("ollama._types.ResponseError", "openai.PermissionDeniedError", "anthropic.PermissionDeniedError"),
    429: ("ollama._types.ResponseError", "openai.RateLimitError", "anthropic.RateLimitError"),
}


async def test_libraries_report_a_refusal_with_its_status_and_its_sentence(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    keys: Path,
    tmp_path: Path,
    http: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, LIMITS, keys=[keys])
    url = address(sidecar)
    bearer, body = {"Authorization": "Bearer key-of-team-b"}, {"model": "simulated", "prompt": "x"}
    async with http.post(f"{url}/api/generate", headers=bearer, json=body) as response:
        assert response.status == 200
    senders = {401: "a wrong key", 403: "key-of-team-a", 429: "key-of-team-b"}
    targets = [Target(str(status), url, "simulated", key) for status, key in senders.items()]
    results = await run_program("refusals_sdk", targets, tmp_path)
    sentences = {401: "API key", 403: "allowed models: other", 429: "requests per minute"}
    for status, kinds in ERRORS.items():
        for name, result in results[str(status)].items():
            assert (result["raised"], result["status"]) == (kinds[_LIBRARIES.index(name.split()[0])], status)
            assert sentences[status] in result["message"], name


_LIBRARIES = ("ollama", "openai", "anthropic")


@pytest.mark.clients
async def test_ollamas_command_line_sends_no_key(
    real_ollama: RealOllama, start_sidecar: StartSidecar, keys: Path, tmp_path: Path
) -> None:
    """`OLLAMA_API_KEY` is not for its own server, and a URL with a password is not understood."""
    guarded = await start_sidecar(real_ollama.port, SidecarConfig(), keys=[keys])
    free = await start_sidecar(real_ollama.port)
    host = f"127.0.0.1:{guarded.port}"

    async def run(**environment: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            real_ollama.program,
            "run",
            "scripted",
            "hello",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    code, out = await run(OLLAMA_HOST=f"127.0.0.1:{free.port}")
    assert code == 0
    assert "capital" in out
    settings: tuple[dict[str, Any], ...] = (
        {"OLLAMA_HOST": host},
        {"OLLAMA_HOST": host, "OLLAMA_API_KEY": KEY},
        {"OLLAMA_HOST": f"http://user:{KEY}@{host}"},
    )
    for environment in settings:
        code, out = await run(**environment)
        assert code == 1, out
    # The first two arrived and were refused, the last one never left.
    await eventually(lambda: guarded.runtime.metrics.total("requests") == 2)
