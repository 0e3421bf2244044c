"""The model agent with a real Ollama: files, Modelfiles, shared weights, and a change of models under load."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, Gguf, Load, ModelPhase, SidecarConfig
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.main import Sidecar
from support.machine.real_ollama import MODEL, RealOllama, running_ollama
from support.machine.scripted_model import TEMPLATE, scripted_model
from support.servers import StartSidecar
from support.waiting import eventually

#: More threads than free cores wait for each other.
ONE_THREAD = "PARAMETER num_thread 1\n"
MODELFILE = (
    ONE_THREAD
    + f'''# A comment
TEMPLATE """{TEMPLATE}"""
system """You answer in
two lines. "Really" """
PARAMETER temperature 0.5
PARAMETER top_k 20
PARAMETER use_mmap false
PARAMETER stop "END OF"
PARAMETER stop <|end|>
MESSAGE user Who are you?
MESSAGE assistant "A small model"
LICENSE Apache-2.0
REQUIRES 0.12.0
'''
)


@pytest.fixture(scope="module")
def ollama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ollama")


@pytest.fixture(scope="module")
def ollama(ollama_folder: Path) -> Iterator[RealOllama]:
    with running_ollama(ollama_folder) as one:
        yield one


@pytest.fixture
def gguf(tmp_path: Path) -> Gguf:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/one.gguf").write_bytes(scripted_model())
    return Gguf("/volume/one.gguf", str(tmp_path))


async def listed(http: aiohttp.ClientSession, ollama: RealOllama, path: str = "tags") -> dict[str, dict[str, Any]]:
    async with http.get(f"{ollama.url}/api/{path}") as response:
        return {model["name"]: model for model in (await response.json())["models"]}


async def until_ready(sidecar: Sidecar) -> None:
    def settled() -> bool:
        return all(model.phase is ModelPhase.READY for model in sidecar.status().models)

    await eventually(settled, 60)


async def test_a_model_is_created_as_ollama_itself_creates_it(
    ollama: RealOllama, start_sidecar: StartSidecar, http: aiohttp.ClientSession, gguf: Gguf, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM {gguf.file}\n{MODELFILE}")
    command = [ollama.program, "create", "by-ollama:1", "-f", str(tmp_path / "Modelfile")]
    environment = {"OLLAMA_HOST": ollama.url, "HOME": str(tmp_path)}
    await asyncio.to_thread(subprocess.run, command, env=environment, check=True, capture_output=True)
    model = DeclaredModel("by-us:1", Load.ON_DEMAND, gguf=gguf, modelfile=MODELFILE)
    sidecar = await start_sidecar(ollama.port, SidecarConfig(models=(model,)))
    await until_ready(sidecar)
    models = await listed(http, ollama)
    assert models["by-us:1"]["digest"] == models["by-ollama:1"]["digest"]
    # The name under which it was created goes when the pod has no requests.
    watch = sidecar.runtime.watch
    await eventually(lambda: not any(name.startswith("llmendpoint/") for name in watch.listed))


async def test_a_restarted_sidecar_creates_nothing_again(
    ollama: RealOllama, start_sidecar: StartSidecar, http: aiohttp.ClientSession, gguf: Gguf, tmp_path: Path
) -> None:
    models = (
        DeclaredModel("file:1", Load.ON_DEMAND, gguf=gguf, modelfile=ONE_THREAD),
        DeclaredModel("derived:1", Load.ON_DEMAND, modelfile="FROM file:1\nSYSTEM Be brief."),
    )
    config = SidecarConfig(models=models)
    first = await start_sidecar(ollama.port, config, state_folder=tmp_path / "state")
    await until_ready(first)
    before = await listed(http, ollama)
    await first.stop()
    Path(gguf.file).unlink()
    second = await start_sidecar(ollama.port, config, state_folder=tmp_path / "state")
    await until_ready(second)
    after = await listed(http, ollama)
    for name in ("file:1", "derived:1"):
        assert after[name]["modified_at"] == before[name]["modified_at"]


async def test_a_model_that_shares_weights_is_loaded_with_the_other(
    ollama: RealOllama, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    models = (DeclaredModel(MODEL), DeclaredModel("brief:1", modelfile=f"FROM {MODEL}\nSYSTEM Be brief."))
    sidecar = await start_sidecar(ollama.port, SidecarConfig(models=models))
    await until_ready(sidecar)
    assert all(model.loaded for model in sidecar.status().models)
    # Without one of the names, the other stays in memory.
    sidecar.configure(Inputs(SidecarConfig(models=models[1:], allowed_hosts=("*",))))
    await until_ready(sidecar)
    await sidecar.runtime.watch.poll()
    assert len(await listed(http, ollama, "ps")) == 1
    assert sidecar.status().models[0].loaded


async def test_a_changed_file_replaces_the_model_without_a_lost_request(
    ollama: RealOllama, ollama_folder: Path, start_sidecar: StartSidecar, http: aiohttp.ClientSession, gguf: Gguf
) -> None:
    Path(gguf.file).with_name("two.gguf").write_bytes(scripted_model() + b"\0" * 32)
    modelfile = f'{ONE_THREAD}TEMPLATE """{TEMPLATE}"""'

    def config(path: str) -> SidecarConfig:
        model = DeclaredModel("swapped:1", gguf=Gguf(path, gguf.root), modelfile=modelfile)
        return SidecarConfig(models=(model,), allowed_hosts=("*",))

    state = ollama_folder / "models/.llmendpoint"
    sidecar = await start_sidecar(ollama.port, config("/volume/one.gguf"), state_folder=state)
    await until_ready(sidecar)
    old = sidecar.status().models[0].digest
    statuses: list[int] = []
    unready = 0
    done = asyncio.Event()

    async def ask() -> None:
        body = {"model": "swapped:1", "prompt": "hello", "options": {"num_predict": 20}}
        while not done.is_set():
            async with http.post(f"http://127.0.0.1:{sidecar.port}/api/generate", json=body) as response:
                lines = await response.read()
                statuses.append(response.status if b'"done":true' in lines else 0)

    async def watch() -> None:
        nonlocal unready
        while not done.is_set():
            unready += not sidecar.status().ready
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(work()) for work in (ask, ask, ask, watch)]
    await eventually(lambda: len(statuses) > 5)
    sidecar.configure(Inputs(config("/volume/two.gguf")))
    await until_ready(sidecar)
    await sidecar.runtime.watch.poll()
    new = sidecar.status().models[0].digest
    count = len(statuses)
    await eventually(lambda: len(statuses) > count + 5)
    done.set()
    await asyncio.gather(*tasks)
    assert old != new
    assert set(statuses) == {200}
    assert unready == 0
    await eventually_only(http, ollama, new)


async def eventually_only(http: aiohttp.ClientSession, ollama: RealOllama, digest: str) -> None:
    """Wait until the swapped model is in memory, and its predecessor is not."""
    async with asyncio.timeout(30):
        while True:
            loaded = await listed(http, ollama, "ps")
            digests = {model["digest"] for name, model in loaded.items() if name != f"{MODEL}:latest"}
            if digest.removeprefix("sha256:") in digests and len(digests) == 1:
                return
            await asyncio.sleep(0.05)
