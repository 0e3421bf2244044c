"""docs/simulator.md explains every field and fault, and its examples are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from llmendpoint_simulator.behaviour import Behaviour, change
from llmendpoint_simulator.faults import Fault, FaultRule

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) + re.findall(r"\| `(\{\".*?\})` \|", PAGE)
NAMES = [field.name for kind in (Behaviour, FaultRule) for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("name", [*NAMES, *Fault])
def test_a_field_or_fault_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_behaviour(example: str) -> None:
    change(Behaviour(), example.encode())


def test_each_field_of_a_behaviour_has_an_example() -> None:
    shown = {name for example in EXAMPLES for name in json.loads(example)}
    assert shown == {field.name for field in msgspec.structs.fields(Behaviour)}


@pytest.mark.parametrize(
    ("field", "default"),
    [
        (field.name, field.default)
        for field in msgspec.structs.fields(Behaviour)
        if isinstance(field.default, int | float)
    ],
)
def test_a_default_is_the_documented_one(field: str, default: float) -> None:
    row = re.search(rf"^\| `{field}` \| ([^|]*) \|", PAGE, re.MULTILINE)
    if row is not None:
        assert float(row[1]) == default
