"""Fixtures of the tests with client libraries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from llmendpoint_common.contracts.sidecar import IncludeUsage, SidecarConfig, TenantConfig
from llmendpoint_sidecar.main import Sidecar
from support.machine.client_programs import Results, Target, run_program
from support.machine.real_ollama import RealOllama, running_ollama
from support.servers import StartSidecar
from support.waiting import eventually

Compare = Callable[[str, str, str], Awaitable[Results]]


@pytest.fixture(scope="session")
def real_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    """A real Ollama with the scripted model, for all tests of the session."""
    with running_ollama(tmp_path_factory.mktemp("ollama")) as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of two tenants."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for tenant in ("team-a", "team-b"):
        (folder / tenant).write_text(f"key-of-{tenant}")
    return folder


@pytest.fixture
def compare(start_sidecar: StartSidecar, keys: Path, tmp_path: Path) -> Compare:
    """Return a function that runs a program against a server, directly and through sidecars.

    It asserts that all results are equal, and returns them. The sidecars have no limits, all limits, and injected usage.
    """

    async def run(program: str, url: str, model: str) -> Results:
        port = int(url.rpartition(":")[2])
        free = await start_sidecar(port)
        limited = await start_sidecar(port, limits(model), keys=[keys])
        injecting = await start_sidecar(port, SidecarConfig(include_usage=IncludeUsage.INJECT))
        sidecars = {"free": free, "limited": limited, "injecting": injecting}
        targets = [Target("direct", url, model)]
        targets += [Target(name, address(sidecar), model, "key-of-team-a") for name, sidecar in sidecars.items()]
        results = await run_program(program, targets, tmp_path)
        for name, sidecar in sidecars.items():
            differing = {call for call, result in results["direct"].items() if results[name][call] != result}
            assert {call: (results["direct"][call], results[name][call]) for call in differing} == {}, name
            # Every request has ended, also those whose stream the program cancelled.
            await eventually(lambda sidecar=sidecar: not sidecar.runtime.meter.in_flight.counts())  # type: ignore[misc]
        return results["direct"]

    return run


def limits(model: str) -> SidecarConfig:
    """Return a configuration with all limits, none of which is reached."""
    models = (model, "no-such-model", "copied", "created", "127.0.0.1:9/none/none")
    tenant = TenantConfig(
        name="team-a",
        requests_per_minute=100_000,
        tokens_per_minute=10_000_000,
        max_concurrent=16,
        allowed_models=models,
    )
    return SidecarConfig(tenants=(tenant,), max_waiting=16, include_usage=IncludeUsage.PASSTHROUGH)


def address(sidecar: Sidecar) -> str:
    """Return the base URL of a sidecar."""
    return f"http://127.0.0.1:{sidecar.port}"
