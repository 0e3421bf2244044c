"""Example values of JSON schemas, for structured output and for the arguments of tool calls."""

from __future__ import annotations

from typing import Any

_MAX_DEPTH = 12
_SIMPLE: dict[str, Any] = {"string": "fox", "integer": 7, "number": 0.5, "boolean": True, "null": None}


def example(schema: Any) -> Any:
    """Return a value that a JSON schema describes. Formats, patterns and bounds are not observed.

    A schema that is recursive without end gives null at a depth of 12.
    """
    return _example(schema, schema, 0)


def _example(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    instead = _instead(schema, root)
    if instead is not None:
        return _example(instead, root, depth + 1)
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _example(inner, root, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        return [_example(schema.get("items", {}), root, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]
    return _SIMPLE.get(kind)


def _instead(schema: dict[str, Any], root: Any) -> Any:
    """Return the schema that a reference or a choice stands for, or None."""
    if "$ref" in schema:
        return _resolve(str(schema["$ref"]), root)
    return next((schema[name][0] for name in ("anyOf", "oneOf", "allOf") if schema.get(name)), None)


def _resolve(reference: str, root: Any) -> Any:
    """Return the schema of a reference inside the document, such as `#/$defs/City`. Others stand for null."""
    found = root
    for name in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {"type": "null"}
