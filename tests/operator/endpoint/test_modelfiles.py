"""Modelfiles in ConfigMaps: what the operator reads, how often, and what it says if it cannot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint.modelfiles import Modelfiles, Resolved
from support.in_memory.children import KEY
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.fakes import FakeObjects, forbidden

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REFERENCE = {"name": "prompts", "key": "brief"}
MODELS = [{"name": "tiny:latest"}, {"name": "brief:1", "modelfile": {"configMapKeyRef": REFERENCE}}]


class World:
    """Modelfiles of one endpoint, and the ConfigMap to which it refers."""

    def __init__(self) -> None:
        self.objects = FakeObjects()
        self.modelfiles = Modelfiles(self.objects)  # type: ignore[arg-type]
        self.seconds = 0.0

    def show(self, **data: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prompts", "namespace": "ns"}}
        self.objects.put({**body, "data": data})

    async def resolve(self, generation: int = 1, **spec: Any) -> Resolved:
        given = endpoint_spec(**{"models": MODELS, **spec})
        return await self.modelfiles.resolve(KEY, generation, given, NOW + timedelta(seconds=self.seconds))

    @property
    def reads(self) -> int:
        return sum(call.startswith("get") for call in self.objects.calls)


@pytest.fixture
def world() -> World:
    return World()


def text_of(spec: LLMEndpointSpec) -> str | None:
    modelfile = spec.models[1].modelfile
    return None if modelfile is None else modelfile.inline


async def test_without_a_reference_nothing_is_read(world: World) -> None:
    inline = [{"name": "brief:1", "modelfile": {"inline": "FROM tiny:latest"}}]
    resolved = await world.resolve(models=inline)
    assert resolved.spec == endpoint_spec(models=inline)
    assert world.reads == 0


async def test_the_text_is_read_again_after_30_seconds_and_for_a_new_spec(world: World) -> None:
    world.show(brief="FROM tiny:latest")
    assert text_of((await world.resolve()).spec) == "FROM tiny:latest"
    world.show(brief="FROM tiny:latest\nSYSTEM New.")
    world.seconds = 29
    assert text_of((await world.resolve()).spec) == "FROM tiny:latest"
    assert world.reads == 1
    world.seconds = 30
    assert text_of((await world.resolve()).spec) == "FROM tiny:latest\nSYSTEM New."
    await world.resolve(generation=2)
    assert world.reads == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "The Modelfile of brief:1 is missing: ConfigMap prompts does not exist."),
        ({"other": "FROM a"}, "ConfigMap prompts has no key brief."),
    ],
)
async def test_what_is_missing_is_named_and_looked_for_again(
    world: World, data: dict[str, str] | None, words: str
) -> None:
    if data is not None:
        world.show(**data)
    fault = (await world.resolve()).fault
    assert fault is not None
    assert fault.reason == "ReferenceNotFound"
    assert words in fault.message
    world.show(brief="FROM tiny:latest")
    assert (await world.resolve()).fault is None


async def test_an_invalid_text_is_an_invalid_spec_with_the_line(world: World) -> None:
    world.show(brief="FROM tiny:latest\nADAPTER ./a")
    assert "brief:1: line 2 of the Modelfile: ADAPTER is not supported" in (await world.resolve()).invalid


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM brief:1", "cannot change a model under its own name"),
        ("SYSTEM a", "needs FROM"),
        ("FROM tiny:latest" + " " * 65536, "more than 65536 characters"),
        ("FROM circle:1", "in a circle"),
    ],
)
async def test_a_text_that_does_not_fit_its_model_is_an_invalid_spec(world: World, text: str, words: str) -> None:
    world.show(brief=text)
    circle = {"name": "circle:1", "modelfile": {"inline": "FROM brief:1"}}
    assert words in (await world.resolve(models=[*MODELS, circle])).invalid


async def test_if_it_cannot_be_read_again_the_last_text_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.show(brief="FROM tiny:latest")
    await world.resolve()

    async def refused(*_: str) -> None:
        raise forbidden()

    monkeypatch.setattr(world.objects, "get", refused)
    world.seconds = 60
    assert text_of((await world.resolve()).spec) == "FROM tiny:latest"
    fault = (await world.resolve(generation=2)).fault
    assert fault is not None
    assert fault.reason == "Forbidden"
