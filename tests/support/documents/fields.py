"""The fields of a spec: where they are in a schema and in examples, and other values for them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmendpoint_operator.crd.definitions import custom_resource_definitions

Schema = dict[str, Any]

#: Texts of many forms. The first one that a pattern allows is used.
_TEXTS = (
    "changed", "changed-0", "Changed", "7s", "7m", "7%", "7", "0.7", "changed:7b", "/changed", "/changed.gguf", "changed.example",
    "changed.example/thing", "https://changed.example", "sha256:" + "7" * 64, "FROM changed:7b", "10.7.0.0/16",
)  # fmt: skip


def spec_schema(kind: str) -> Schema:
    """Return the schema of a kind's spec, as the CustomResourceDefinition has it."""
    (crd,) = [item for item in custom_resource_definitions() if item["spec"]["names"]["kind"] == kind]
    return dict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])


def is_leaf(schema: Schema) -> bool:
    """Return whether a field has no fields with names of their own."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return True
    items = schema.get("items")
    return "properties" not in schema and (items is None or "properties" not in items)


def leaves(schema: Schema, path: str = "spec") -> Iterator[tuple[str, Schema]]:
    """Yield the path and the schema of each field without fields of its own. Items of lists are not numbered."""
    if is_leaf(schema):
        yield path, schema
        return
    for name, field in (schema.get("properties") or schema.get("items", {}).get("properties") or {}).items():
        yield from leaves(field, f"{path}.{name}")


@dataclass(frozen=True)
class Place:
    """A field in an example: its path in the schema, its schema, and the keys that lead to its value."""

    path: str
    schema: Schema
    keys: tuple[str | int, ...]

    def value(self, spec: Schema) -> Any:
        for key in self.keys:
            spec = spec[key]  # type: ignore[index]
        return spec

    def changed(self, spec: Schema, value: Any) -> Schema:
        """Return the example with another value."""
        result = copy.deepcopy(spec)
        target: Any = result
        for key in self.keys[:-1]:
            target = target[key]
        target[self.keys[-1]] = value
        return result


def places(schema: Schema, value: Any, path: str = "spec", keys: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """Yield the fields without fields of their own that an example has."""
    if is_leaf(schema):
        yield Place(path, schema, keys)
    elif "properties" in schema:
        for name, item in value.items():
            yield from places(schema["properties"][name], item, f"{path}.{name}", (*keys, name))
    else:
        for number, item in enumerate(value):
            yield from places(schema["items"], item, path, (*keys, number))


def other_values(schema: Schema, value: Any) -> Iterator[Any]:
    """Yield values of a field's type that differ from its value. Other fields may forbid one of them."""
    if "enum" in schema:
        yield from (each for each in schema["enum"] if each != value)
    elif schema.get("x-kubernetes-int-or-string"):
        yield from (each for each in ("7", "70%", "7Gi", "7Ti") if each != str(value) and _fits(schema, each))
    elif schema["type"] == "boolean":
        yield not value
    elif schema["type"] == "integer":
        yield from (each for each in (value + 1, value - 1) if _is_between(schema, each))
    elif schema["type"] == "string":
        words = re.fullmatch(r"\^\(([A-Za-z|]+)\)\$", schema.get("pattern", ""))
        texts = words[1].split("|") if words else _TEXTS
        yield from (each for each in texts if each != value and _fits(schema, each))
    elif schema["type"] == "array":
        yield value[1:]
        for each in other_values(schema["items"], None):
            yield [*value, each]
            yield [each]
    else:
        yield {
            **value,
            "changed.example/key": next(other_values(schema.get("additionalProperties", {"type": "string"}), None)),
        }
        yield {}


def _fits(schema: Schema, text: str) -> bool:
    pattern = schema.get("pattern", "")
    bounds = schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text))
    return bounds and re.search(re.sub(r"\\x\{([0-9a-f]{4})\}", r"\\u\1", pattern), text) is not None


def _is_between(schema: Schema, number: int) -> bool:
    return bool(schema.get("minimum", number) <= number <= schema.get("maximum", number))
