"""The model agent against the simulator: pull, copy, load, answer, and the messages for users if a step fails."""

from __future__ import annotations

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, Load, ModelPhase, Registry, SidecarConfig
from llmendpoint_sidecar.inputs.files import Inputs
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually


def config(*models: DeclaredModel) -> SidecarConfig:
    return SidecarConfig(models=models)


async def test_ready_means_that_the_model_answered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[], registry=["llama3.2:3b"], pull=0.1, ttft=0.3)
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("llama3.2:3b")))
    await eventually(lambda: bool(simulator.simulator.ledger.entries))
    assert not sidecar.status().ready  # present and asked, but it has not answered
    await eventually(lambda: sidecar.status().ready)
    entry = simulator.simulator.ledger.entries[0]
    assert entry.outcome == "completed"
    assert entry.generation_tokens == 1
    assert sidecar.status().models[0].loaded


async def test_an_embedding_model_is_asked_for_an_embedding(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[], embedding_models=["embed:latest"])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("embed:latest")))
    await eventually(lambda: sidecar.status().ready)
    assert {entry.operation for entry in simulator.simulator.ledger.entries} == {"embed"}


async def test_a_model_of_another_registry_gets_its_declared_name(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[], registry=["reg.example:5000/library/tiny:7b"])
    model = DeclaredModel("mine:7b", registry=Registry("reg.example:5000", "library/tiny", insecure=True))
    sidecar = await start_sidecar(simulator.port, config(model))
    await eventually(lambda: sidecar.status().ready)
    assert "mine:7b" in simulator.simulator.store.present


@pytest.mark.parametrize(
    "names",
    [
        ("Tiny:Latest",),
        ("library/tiny:latest",),
        ("tiny:latest", "library/tiny:latest"),
        ("tiny:latest", "Tiny:Latest"),
    ],
)
async def test_a_model_is_pulled_and_loaded_once_however_its_name_is_written(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, names: tuple[str, ...]
) -> None:
    """Ollama compares names without regard to case, and leaves out its default namespace."""
    markers = [f"marker:{number}" for number in range(2)]
    simulator = await start_simulator(models=[], registry=["tiny:latest", *markers])
    models = tuple(DeclaredModel(name) for name in names)
    sidecar = await start_sidecar(simulator.port, config(*models))
    await eventually(lambda: sidecar.status().ready)
    assert all(model.present and model.loaded and model.digest for model in sidecar.status().models)
    loads = len(simulator.simulator.ledger.entries)
    for marker in markers:
        # The agent compares all models again, the marker last.
        sidecar.configure(Inputs(config(*models, DeclaredModel(marker, Load.ON_DEMAND))))
        await eventually(lambda: sidecar.status().models[-1].phase is ModelPhase.READY)
    assert len(simulator.simulator.ledger.entries) == loads <= len(names)


async def test_two_names_of_one_model_are_loaded_once(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    """Ollama keeps the model in memory once, and lists it under the first name."""
    markers = [f"marker:{number}" for number in range(2)]
    simulator = await start_simulator(models=[], registry=["reg.example:5000/library/tiny:7b", *markers])
    registry = Registry("reg.example:5000", "library/tiny:7b", insecure=True)
    models = tuple(DeclaredModel(name, registry=registry) for name in ("first:1", "second:1"))
    sidecar = await start_sidecar(simulator.port, config(*models))
    await eventually(lambda: sidecar.status().ready)
    assert all(model.loaded and model.loaded_bytes for model in sidecar.status().models)
    loads = len(simulator.simulator.ledger.entries)
    for marker in markers:
        sidecar.configure(Inputs(config(*models, DeclaredModel(marker, Load.ON_DEMAND))))
        await eventually(lambda: sidecar.status().models[-1].phase is ModelPhase.READY)
    assert len(simulator.simulator.ledger.entries) == loads <= len(models)


async def test_a_model_that_does_not_exist_is_said_and_recovers_by_itself(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("nope:1b")))
    await eventually(lambda: sidecar.status().models[0].reason == "ModelNotFound")
    assert "Check the name and the tag" in sidecar.status().models[0].message
    simulator.behave(registry=["nope:1b"])
    await eventually(lambda: sidecar.status().ready, seconds=20)


async def test_another_digest_is_refused(start_simulator: StartSimulator, start_sidecar: StartSidecar) -> None:
    simulator = await start_simulator(models=["m:1b"])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("m:1b", digest="sha256:" + "0" * 64)))
    await eventually(lambda: sidecar.status().models[0].reason == "DigestMismatch")
    assert not sidecar.status().ready


async def test_a_digest_that_is_declared_later_is_checked_too(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["m:1b"])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("m:1b")))
    await eventually(lambda: sidecar.status().ready)
    sidecar.configure(Inputs(config(DeclaredModel("m:1b", digest="sha256:" + "0" * 64))))
    await eventually(lambda: sidecar.status().models[0].reason == "DigestMismatch")


async def test_an_evicted_model_is_loaded_again_without_losing_readiness(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(models=["m:1b"])
    sidecar = await start_sidecar(
        simulator.port, config(DeclaredModel("m:1b"), DeclaredModel("m:1b-od", load=Load.ON_DEMAND))
    )
    simulator.behave(registry=["m:1b-od"])
    await eventually(lambda: sidecar.status().ready, seconds=20)
    loads = len(simulator.simulator.ledger.entries)
    async with http.post(f"{simulator.url}/api/generate", json={"model": "m:1b", "keep_alive": 0}) as response:
        assert (await response.json())["done_reason"] == "unload"
    await eventually(lambda: len(simulator.simulator.ledger.entries) == loads + 2)
    assert sidecar.status().ready
    assert {model.phase for model in sidecar.status().models} <= {ModelPhase.READY, ModelPhase.LOADING}


async def test_probes_and_metrics_over_http(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    sidecar = await start_sidecar(unused_tcp_port)
    url = f"http://127.0.0.1:{sidecar.admin_port}"
    async with http.get(f"{url}/livez") as response:
        assert response.status == 200
    async with http.get(f"{url}/readyz") as response:
        assert response.status == 503
        assert "Ollama does not answer" in await response.text()
    async with http.get(f"{url}/metrics") as response:
        assert "llmendpoint_upstream_up 0.0" in await response.text()
    async with http.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        assert (await response.text()).endswith("# EOF\n")
