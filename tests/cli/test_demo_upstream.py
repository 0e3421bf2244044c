"""The model server of the demo."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llmendpoint_cli.commands import demo
from llmendpoint_cli.upstream import SIMULATED_MODEL, Upstream, is_simulator
from support.servers import StartSimulator


async def test_a_simulator_on_the_port_of_ollama_is_not_taken_for_an_ollama(
    start_simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await start_simulator(models=["other:1b"])
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{other.port}")
    said: list[str] = []
    chosen = await asyncio.to_thread(run, said)
    # The objectives are those of a simulator that the demo starts, whose timing is known.
    assert (chosen.model, chosen.is_real) == (SIMULATED_MODEL, False)
    assert chosen.url != other.url
    assert said[0].endswith(f"what answers at http://127.0.0.1:{other.port} is a simulator too")


def run(said: list[str]) -> Upstream:
    """Return the model server that the demo chooses, and end it."""
    with contextlib.ExitStack() as stack:
        chosen = demo._upstream(stack, said.append)
        assert is_simulator(chosen.url)
    return chosen
