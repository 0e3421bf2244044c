"""Labels of models: names as Ollama compares them, `other` for the rest, and bounds."""

from __future__ import annotations

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS, ModelLabels
from support.servers import StartSidecar, StartSimulator

SPELLINGS = ["tiny", "TINY", "tiny:LATEST", "library/tiny", "registry.ollama.ai/library/tiny", "https://registry.ollama.ai/Library/Tiny:latest"]  # fmt: skip


@pytest.fixture
def model_labels() -> ModelLabels:
    labels = ModelLabels(lambda: None)
    labels.list(["tiny:latest", "tiny:1b", "example.com/team/tiny:latest"])
    return labels


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_listed_name_has_its_label(model_labels: ModelLabels, name: str) -> None:
    assert model_labels.label(name) == "tiny:latest"


@pytest.mark.parametrize("name", ["", "tiny:2b", "team/tiny", "example.com/tiny", "tiny:latest:latest", "x" * 100_000])
def test_any_other_name_is_other(model_labels: ModelLabels, name: str) -> None:
    assert model_labels.label(name) == "other"


def test_names_of_another_registry_are_another_model(model_labels: ModelLabels) -> None:
    assert model_labels.label("EXAMPLE.com/Team/TINY") == "example.com/team/tiny:latest"


def test_spellings_share_the_slots_of_their_model(model_labels: ModelLabels) -> None:
    in_flight = InFlight(model_labels, parallel=1)
    for name in SPELLINGS:
        in_flight.enter(model_labels.label(name))
    assert in_flight.counts() == {"tiny:latest": len(SPELLINGS)}
    assert in_flight.running() == {"tiny:latest": 1}
    assert not in_flight.has_room("Library/TINY", len(SPELLINGS) - 1)


def test_a_label_stays_when_ollama_lists_another_spelling() -> None:
    labels = ModelLabels(lambda: None)
    labels.list(["Tiny:latest"])
    assert labels.label("tiny") == "Tiny:latest"
    labels.list(["tiny:latest"])
    assert labels.label("tiny") == "Tiny:latest"


def test_spellings_use_up_neither_labels_nor_memory() -> None:
    labels = ModelLabels(lambda: None)
    labels.list(["tiny:latest", *(f"m{index}:1b" for index in range(MAX_MODELS))])
    for index in range(10_000):
        assert labels.label(f"{index}://registry.ollama.ai/library/tiny") == "tiny:latest"
    assert sum(labels.known(f"{index}://registry.ollama.ai/library/tiny") is not None for index in range(10_000)) < 2000
    assert labels.label(f"{'x' * 10_000}://registry.ollama.ai/library/tiny") == "tiny:latest"
    assert labels.label("m1:1b") == "m1:1b"


@given(st.text())
def test_no_name_raises_or_becomes_a_label(name: str) -> None:
    labels = ModelLabels(lambda: None)
    labels.list(["tiny:latest"])
    assert labels.label(name) in ("tiny:latest", "other")
    assert labels.counted(name) in ("tiny:latest", "other")


async def test_the_context_length_is_found_by_every_spelling(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    body = {"model": "simulated", "prompt": "x"}
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/generate", json=body) as response:
        await response.read()
    watch = sidecar.runtime.watch
    await watch.poll()
    lengths = {watch.context_length(name) for name in ("simulated", "Simulated:LATEST", "library/simulated")}
    assert len(lengths) == 1
    assert None not in lengths
    assert watch.context_length("other") is None
