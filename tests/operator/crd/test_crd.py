"""The CRDs: generated files, descriptions and structural schemas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmendpoint_operator.cluster.kinds import TABLE, Role
from llmendpoint_operator.crd.definitions import custom_resource_definitions

ROOT = Path(__file__).parents[3]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_every_field_has_a_description_and_no_float() -> None:
    for definition in custom_resource_definitions():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, node in nodes(schema):
            if path.startswith((".spec.", ".status.")):
                assert node.get("description"), path
            assert node.get("type") != "number", path
            assert not {"$ref", "title", "anyOf"} & node.keys() or node.get("x-kubernetes-int-or-string"), path


def test_descriptions_are_sentences() -> None:
    for definition in custom_resource_definitions():
        version = definition["spec"]["versions"][0]
        texts = [
            (path, node["description"])
            for path, node in nodes(version["schema"]["openAPIV3Schema"])
            if "description" in node
        ]
        texts += [(column["name"], column["description"]) for column in version["additionalPrinterColumns"]]
        for path, text in texts:
            assert text.endswith("."), (path, text)
            assert not text[0].islower(), (path, text)


def test_names_come_from_the_table_of_kinds() -> None:
    names = {
        definition["metadata"]["name"]: definition["spec"]["names"] for definition in custom_resource_definitions()
    }
    ours = [kind for kind in TABLE if kind.role is Role.RESOURCE]
    assert {name: row["kind"] for name, row in names.items()} == {
        f"{kind.plural}.{kind.group}": kind.name for kind in ours
    }


def test_generated_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate.py"), "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
