"""The Python code on the page about clients, as it is there, against a sidecar with keys in front of the simulator."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from clients.conftest import address
from llmendpoint_common.contracts.sidecar import SidecarConfig
from support.documents.documented import ROOT, Block, blocks_of
from support.machine.client_programs import environment_of, python_with
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

_PAGE = ROOT / "docs/how-to/clients.md"
_ADDRESS = "http://127.0.0.1:11435"
_FRAMEWORKS = ("langchain_ollama",)


def library(block: Block) -> str:
    found = re.search(r"^(?:import|from) (\w+)", block.text)
    assert found is not None
    return found[1]


PROGRAMS = [
    pytest.param(block, id=library(block), marks=[pytest.mark.clients] if library(block) in _FRAMEWORKS else [])
    for block in blocks_of(_PAGE)
    if block.language == "python"
]


def test_the_page_has_the_libraries() -> None:
    names = [library(block) for block in blocks_of(_PAGE) if block.language == "python"]
    assert names == ["ollama", "openai", "anthropic", "langchain_ollama"]


@pytest.mark.parametrize("block", PROGRAMS)
async def test_the_code_prints_the_answer_and_is_metered_for_its_tenant(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    block: Block,
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/team-a").write_text("KEY")
    simulator = await start_simulator(models=["llama3.2:3b"])
    sidecar = await start_sidecar(simulator.port, SidecarConfig(), keys=[tmp_path / "keys"])
    assert _ADDRESS in block.text
    (tmp_path / "program.py").write_text(block.text.replace(_ADDRESS, address(sidecar)))
    process = await asyncio.create_subprocess_exec(
        python_with(frameworks=library(block) in _FRAMEWORKS),
        "program.py",
        cwd=tmp_path,
        env=environment_of(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.decode().split() == ["the", "quick", "brown", "fox", "jumps"]
    await eventually(lambda: not sidecar.runtime.meter.in_flight.counts())
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics") as response:
        text = await response.text()
    assert re.search(
        r'^llmendpoint_generation_tokens_total\{[^}]*tenant="team-a"[^}]*\} 5(\.0)?$', text, re.MULTILINE
    ), text
