"""The model agent against a real Ollama."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, Load, SidecarConfig
from support.machine.real_ollama import MODEL, running_ollama
from support.servers import StartSidecar
from support.waiting import eventually


@pytest.mark.clients
async def test_ollama_finds_a_model_however_its_name_is_written(tmp_path: Path, start_sidecar: StartSidecar) -> None:
    """The model is present as `scripted:latest`. A pull under another spelling would fail: there is no such registry."""
    names = (f"{MODEL.upper()}:Latest", f"library/{MODEL}:latest")
    with running_ollama(tmp_path) as ollama:
        sidecar = await start_sidecar(
            ollama.port, SidecarConfig(tuple(DeclaredModel(name, Load.PRELOAD) for name in names))
        )
        await eventually(lambda: sidecar.status().ready, 60)
        assert all(model.present and model.loaded for model in sidecar.status().models)


@pytest.mark.clients
async def test_ollama_lists_a_model_in_memory_under_one_of_its_names(
    tmp_path: Path, start_sidecar: StartSidecar
) -> None:
    with running_ollama(tmp_path) as ollama:
        async with aiohttp.ClientSession(ollama.url) as session:
            await session.post("/api/copy", json={"source": MODEL, "destination": "second:1"})
            models = tuple(DeclaredModel(name, Load.PRELOAD) for name in (MODEL, "second:1"))
            sidecar = await start_sidecar(ollama.port, SidecarConfig(models))
            await eventually(lambda: sidecar.status().ready, 60)
            assert all(model.loaded and model.loaded_bytes for model in sidecar.status().models)
            async with session.get("/api/ps") as response:
                in_memory = (await response.json())["models"]
    assert [model["name"] for model in in_memory] == [f"{MODEL}:latest"]
