"""Reads the values of the chart: names, defaults and descriptions from values.yaml, rules from values.schema.json.

A description is a comment that begins with `# --` and continues until the key below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from reference.markdown import HEADER, bounds, code, plain, table, value

Schema: TypeAlias = dict[str, Any]

_MARK = "# -- "
_TEXT = """# Values of the chart

`helm install --set NAME=VALUE` or `--values FILE` sets a value. A schema refuses names that are not listed here.
[install.md](../install.md) describes common combinations.

"""


class Value(NamedTuple):
    """A value of the chart. `rules` are sentences about the values that the schema accepts."""

    path: str
    type: str
    default: Any
    text: str
    rules: tuple[str, ...]


def values_page(chart: Path) -> str:
    """Return the page of all values."""
    return HEADER + _TEXT + values_table(chart)


def values_table(chart: Path) -> str:
    """Return the table of all values."""
    rows = [
        [code(one.path), one.type, value(one.default), "<br>".join([plain(one.text.rstrip(".")) + ".", *one.rules])]
        for one in chart_values(chart)
    ]
    return table(["value", "type", "default", "description"], rows)


def chart_values(chart: Path) -> list[Value]:
    """Return the values of a chart, in the order of the file. Raises ValueError if one has no description or schema."""
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{chart / 'values.yaml'} is not a mapping")
    return list(_values(root, (), text.splitlines(), schema))


def _values(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str], schema: Schema) -> Iterator[Value]:
    for key, child in node.value:
        name = (*path, key.value)
        below = schema["properties"].get(key.value)
        if below is None:
            raise ValueError(f"values.schema.json has no {'.'.join(name)}")
        text = _comment(lines, key.start_mark.line)
        if text:
            default = yaml.safe_load(yaml.serialize(child))
            yield Value(".".join(name), _type(below, default), default, text, tuple(_rules(below)))
        elif isinstance(child, yaml.MappingNode) and child.value:
            yield from _values(child, name, lines, below)
        else:
            raise ValueError(f"values.yaml has no description of {'.'.join(name)}: begin a comment with '{_MARK}'")


def _comment(lines: list[str], line: int) -> str:
    """Return the description above a line, or nothing if there is none."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        stripped = above.strip()
        if stripped.startswith(_MARK):
            return " ".join([stripped.removeprefix(_MARK), *reversed(found)])
        if not stripped.startswith("#"):
            break
        found.append(stripped.removeprefix("#").strip())
    return ""


def _type(schema: Schema, default: Any) -> str:
    if "enum" in schema:
        return "string"
    types = schema.get("type")
    if types is None:
        return {dict: "object", list: "array", bool: "boolean", int: "integer"}.get(type(default), "string")
    return " or ".join([types] if isinstance(types, str) else types)


def _rules(schema: Schema) -> Iterator[str]:
    if "enum" in schema:
        yield f"One of {', '.join(value(item) for item in schema['enum'])}."
    yield from bounds(schema)
    if "pattern" in schema:
        yield f"Matches {code(schema['pattern'])}."
    if "pattern" in schema.get("items", {}):
        yield f"Each item matches {code(schema['items']['pattern'])}."
