"""Converts pydantic models to structural OpenAPI schemas, which CustomResourceDefinitions require.

A structural schema has no references, titles or null. pydantic's `anyOf` of a type and null becomes the type, because
an absent field and a null field mean the same here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

#: Keywords of pydantic that a structural schema must not have (additionalProperties only if it is a schema).
_DROPPED = {"title", "$defs", "additionalProperties", "exclusiveMinimum", "propertyNames"}


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model, with references inlined."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _structural(child, definitions) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            result[key] = _structural(value, definitions)
        elif key == "const":
            result["enum"] = [value]
        elif key == "default" and value in (None, {}, []):
            continue
        elif key not in _DROPPED:
            result[key] = value
    return result


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a node without `$ref` and without the branch for null. The node's own keywords override the target's."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in node:
        target = _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions)
        return _merged(target, beside)
    branches = [branch for branch in node.get("anyOf", []) if branch.get("type") != "null"]
    if "anyOf" in node and len(branches) == 1:
        return _merged(_resolved(branches[0], definitions), beside)
    return node


def _merged(target: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    merged = {**target, **beside}
    validations = target.get("x-kubernetes-validations", []) + beside.get("x-kubernetes-validations", [])
    if validations:
        merged["x-kubernetes-validations"] = validations
    return merged
