"""The table of dependencies: everything that a child uses by name is in it, and comes before the child."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.reconcile.dependencies import TABLE, needs, part_of
from llmendpoint_operator.reconcile.desired_children import key_of
from support.documents.golden import read_spec
from support.in_memory import endpoints, loadtests

GOLDENS = Path(__file__).parents[1]


def everything(kind: str) -> dict[str, Any]:
    return read_spec(GOLDENS / kind / "golden", "everything")


CHILDREN = {
    "LLMEndpoint": list(endpoints.children(**everything("endpoint")).values()),
    "LoadTest": list(loadtests.children(everything("loadtest")).values()),
    "LoadTest with a trace": list(loadtests.children(read_spec(GOLDENS / "loadtest/golden", "trace")).values()),
    "LoadTest with several pods": list(
        loadtests.children(read_spec(GOLDENS / "loadtest/golden", "several-pods")).values()
    ),
}


def names_used(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of every object that a manifest refers to."""
    if isinstance(value, list):
        for item in value:
            yield from names_used(item)
    if not isinstance(value, dict):
        return
    for field, item in value.items():
        match field:
            case "serviceAccountName":
                yield "ServiceAccount", item
            case "serviceName":
                yield "Service", item
            case "configMap":
                yield "ConfigMap", item["name"]
            case "roleRef" | "subjects":
                yield from ((one["kind"], one["name"]) for one in (item if isinstance(item, list) else [item]))
            case "resourceNames":
                yield from (("ConfigMap", name) for name in item)
            case "args":
                yield from (
                    ("ConfigMap", argument.rpartition("/")[2])
                    for argument in item
                    if argument.startswith("--result-config-map=")
                )
        yield from names_used(item)


@pytest.mark.parametrize("kind", CHILDREN)
def test_every_child_that_another_one_names_is_in_the_table(kind: str) -> None:
    children = CHILDREN[kind]
    ours = {key_of(manifest) for manifest in children}
    for manifest in children:
        used = {ChildKey(*name) for name in names_used(manifest)} & ours
        assert used <= set(needs(manifest, children)), key_of(manifest)


@pytest.mark.parametrize("kind", CHILDREN)
def test_what_a_child_needs_comes_before_it(kind: str) -> None:
    children = CHILDREN[kind]
    order = [key_of(manifest) for manifest in children]
    for manifest in children:
        for key in needs(manifest, children):
            assert order.index(key) < order.index(key_of(manifest))


def test_every_row_of_the_table_is_used() -> None:
    """With the children of a minimal endpoint: with a ServiceAccount of the user, the operator creates none."""
    made = [*CHILDREN.values(), [*endpoints.children().values()]]
    parts = {part_of(manifest) for group in made for manifest in group}
    assert parts >= {part for part, needed in TABLE.items() for part in (part, *needed)}
