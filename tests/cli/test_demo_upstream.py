"""The model server of the demo."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llmendpoint_cli.commands import demo
from llmendpoint_cli.upstream import SIMULATED_MODEL, Upstream, is_simulator
from support.machine.local_stack import free_ports
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


async def test_a_port_that_another_program_takes_meanwhile_is_given_up(
    start_simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await start_simulator(models=["other:1b"])
    [free] = free_ports(1)
    chosen = iter((other.port, free))
    # The other program was not there when the port was chosen.
    monkeypatch.setattr(demo, "free_port", lambda wanted, say: next(chosen))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    said: list[str] = []
    assert (await asyncio.to_thread(run, said)).url == f"http://127.0.0.1:{free}"
    assert said[1:] == ["another program has taken one of the ports meanwhile: choosing again"]


def run(said: list[str]) -> Upstream:
    """Return the model server that the demo chooses, and end it."""
    with contextlib.ExitStack() as stack:
        chosen = demo._upstream(stack, said.append)
        assert is_simulator(chosen.url)
    return chosen
