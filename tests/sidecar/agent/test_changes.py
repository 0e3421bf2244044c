"""Changes of the declared models of a pod that serves, against the simulator: readiness, memory and disk."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, Load, ModelPhase, Registry, SidecarConfig
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.main import Sidecar
from support.servers import RunningSimulator, StartSidecar, StartSimulator
from support.waiting import eventually

OLD, NEW = DeclaredModel("old:1"), DeclaredModel("new:1")


def config(*models: DeclaredModel, **fields: Any) -> SidecarConfig:
    return SidecarConfig(models=models, allowed_hosts=("*",), **fields)


def names(simulator: RunningSimulator) -> set[str]:
    return set(simulator.simulator.store.present)


def loaded(simulator: RunningSimulator) -> set[str]:
    return {model["name"] for model in simulator.simulator.store.loaded_listing()}


async def until_settled(sidecar: Sidecar) -> None:
    def settled() -> bool:
        return all(model.phase is ModelPhase.READY and model.serving for model in sidecar.status().models)

    await eventually(settled)


class Clients:
    """Clients that ask a model again and again, and a look at the readiness of the pod."""

    def __init__(self, http: aiohttp.ClientSession, sidecar: Sidecar, model: str) -> None:
        self._http, self._sidecar, self._model = http, sidecar, model
        self._done = asyncio.Event()
        self.answers: list[bool] = []
        self.unready = 0
        self._tasks = [asyncio.create_task(work()) for work in (self._ask, self._ask, self._look)]

    async def finish(self) -> None:
        """Ask a few times more, and stop."""
        count = len(self.answers)
        await eventually(lambda: len(self.answers) > count + 10)
        self._done.set()
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        body = {"model": self._model, "prompt": "hello"}
        while not self._done.is_set():
            async with self._http.post(f"http://127.0.0.1:{self._sidecar.port}/api/generate", json=body) as response:
                self.answers.append(response.status == 200 and b'"done":true' in await response.read())

    async def _look(self) -> None:
        while not self._done.is_set():
            self.unready += not self._sidecar.status().ready
            await asyncio.sleep(0.01)


async def test_a_new_model_replaces_another_without_losing_readiness(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(models=["old:1"], registry=["new:1"], pull=0.5, load=0.3)
    sidecar = await start_sidecar(simulator.port, config(OLD))
    await until_settled(sidecar)
    clients = Clients(http, sidecar, "old:1")
    sidecar.configure(Inputs(config(NEW)))
    await until_settled(sidecar)
    await clients.finish()
    assert all(clients.answers)
    assert clients.unready == 0


async def test_a_removed_model_leaves_memory_when_the_new_ones_are_ready(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1", "new:1"])
    sidecar = await start_sidecar(simulator.port, config(OLD))
    await until_settled(sidecar)
    sidecar.configure(Inputs(config(NEW)))
    await eventually(lambda: loaded(simulator) == {"new:1"})
    assert names(simulator) == {"old:1", "new:1"}
    sidecar.configure(Inputs(config(msgspec.structs.replace(NEW, load=Load.ON_DEMAND))))
    await eventually(lambda: loaded(simulator) == set())


async def test_a_new_version_is_loaded_before_it_gets_the_name(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(models=[], registry=["one/m:1", "two/m:1"], load=0.5)

    def of(host: str) -> SidecarConfig:
        return config(DeclaredModel("m:1", registry=Registry(host, "m:1")))

    sidecar = await start_sidecar(simulator.port, of("one"))
    await until_settled(sidecar)
    slowest = 0.0
    clock = asyncio.get_running_loop().time
    sidecar.configure(Inputs(of("two")))
    store = simulator.simulator.store
    while sidecar.status().models[0].phase is not ModelPhase.READY:
        began = clock()
        body = {"model": "m:1", "prompt": "hello", "stream": False}
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/generate", json=body) as response:
            assert response.status == 200
        slowest = max(slowest, clock() - began)
        await asyncio.sleep(0.02)
    assert store.present["m:1"] == store.present["two/m:1"]
    # A request that had to wait for the load would take longer.
    assert slowest < 0.4
    await eventually(lambda: len(store.loaded_listing()) == 1)
    # The names of the replacement go when the pod has no requests.
    await eventually(lambda: not any(name.startswith("llmendpoint/") for name in names(simulator)))


@pytest.mark.parametrize("others", [(), (DeclaredModel("kept:1"),)])
async def test_a_new_model_that_fails_does_not_take_the_old_ones_away(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, others: tuple[DeclaredModel, ...]
) -> None:
    simulator = await start_simulator(models=["old:1", "kept:1"])
    sidecar = await start_sidecar(simulator.port, config(OLD, *others))
    await until_settled(sidecar)
    sidecar.configure(Inputs(config(NEW, *others, remove_undeclared=True)))
    await eventually(lambda: sidecar.status().models[0].reason == "ModelNotFound")
    assert sidecar.status().ready
    assert "old:1" in names(simulator) & loaded(simulator)


async def test_a_pull_that_is_no_longer_wanted_ends(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1"], registry=["new:1", "big:1"], pull=3600)
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("big:1")))
    await eventually(lambda: sidecar.status().models[0].phase is ModelPhase.PULLING)
    simulator.behave(pull=0)
    sidecar.configure(Inputs(config(NEW)))
    await until_settled(sidecar)
    assert "big:1" not in names(simulator)


async def test_an_evicted_model_is_loaded_again_during_a_long_pull(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1"], registry=["new:1"], pull=3600)
    sidecar = await start_sidecar(simulator.port, config(OLD, NEW))
    await eventually(lambda: loaded(simulator) == {"old:1"})
    simulator.simulator.store.unload("old:1")
    await eventually(lambda: loaded(simulator) == {"old:1"})
    assert sidecar.status().models[1].phase is ModelPhase.PULLING


async def test_a_tag_that_moved_does_not_replace_a_pinned_version(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1"], registry=["old:1"], revisions={"old:1": "moved"})
    sidecar = await start_sidecar(simulator.port, config(OLD))
    await until_settled(sidecar)
    before = simulator.simulator.store.present["old:1"]
    other = msgspec.structs.replace(OLD, digest="sha256:" + "0" * 64)
    sidecar.configure(Inputs(config(other)))
    await eventually(lambda: sidecar.status().models[0].reason == "DigestMismatch")
    assert sidecar.status().ready
    assert simulator.simulator.store.present["old:1"] == before


async def test_undeclared_models_are_deleted_only_if_asked_and_only_when_all_are_ready(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1", "stranger:1", "base:1"])
    brief = DeclaredModel("brief:1", modelfile="FROM base:1\nSYSTEM Be brief.")
    sidecar = await start_sidecar(simulator.port, config(OLD, brief))
    await until_settled(sidecar)
    sidecar.configure(Inputs(config(NEW, brief, remove_undeclared=True)))
    await eventually(lambda: sidecar.status().models[0].reason == "ModelNotFound")
    assert names(simulator) >= {"old:1", "stranger:1", "base:1", "brief:1"}
    simulator.behave(registry=["new:1"])
    await eventually(lambda: names(simulator) == {"new:1", "base:1", "brief:1"})
    assert loaded(simulator) == {"new:1", "brief:1"}


async def test_models_that_share_weights_are_loaded_once(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["old:1"], registry=["marker:1", "marker:2"])
    models = (OLD, DeclaredModel("brief:1", modelfile="FROM old:1\nSYSTEM Be brief."))
    sidecar = await start_sidecar(simulator.port, config(*models))
    await until_settled(sidecar)
    loads = len(simulator.simulator.ledger.entries)
    for marker in ("marker:1", "marker:2"):
        # The agent compares all models again, the marker last.
        sidecar.configure(Inputs(config(*models, DeclaredModel(marker, Load.ON_DEMAND))))
        await until_settled(sidecar)
    assert len(simulator.simulator.ledger.entries) == loads == 2
    # Without the first name, the weights stay in memory.
    sidecar.configure(Inputs(config(models[1], DeclaredModel("marker:1"))))
    await eventually(lambda: "marker:1" in loaded(simulator))
    await until_settled(sidecar)
    assert simulator.simulator.store.is_loaded("brief:1")
