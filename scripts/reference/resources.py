"""Generates the reference page of a resource from its CustomResourceDefinition.

Each object of the schema gets a section with a table of its fields. An object that occurs several times with the same
fields, such as the resources of a container, gets one section, to which all its fields link.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from reference.markdown import HEADER, anchor, bounds, code, plain, table, value

Schema: TypeAlias = dict[str, Any]

#: Keywords that describe the use of an object by a field, not the object. Objects that differ in them are the same.
_OF_THE_FIELD = {"description", "default"}


def resource_page(definition: dict[str, Any]) -> str:
    """Return the page of a resource."""
    names = definition["spec"]["names"]
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    api_version = f"{definition['spec']['group']}/{version['name']}"
    parts = [
        f"{HEADER}# {names['kind']}\n\n{plain(schema['description'])}\n\n",
        f"`apiVersion: {api_version}`, `kind: {names['kind']}`; "
        f"`kubectl get {names['plural']}`, or {' or '.join(code(name) for name in names['shortNames'])} for short. "
        f"`kubectl explain {names['singular']}.spec` shows the same text.\n\n",
        _rules_list(schema),
        _columns(version["additionalPrinterColumns"]),
    ]
    sections = _Sections()
    for name in ("spec", "status"):
        sections.plan(name, schema["properties"][name])
    parts += sections.render()
    return "".join(parts).rstrip() + "\n"


class _Sections:
    """The sections of a page: one for each object, in the order of the fields."""

    def __init__(self) -> None:
        self._headings: dict[str, str] = {}
        self._objects: list[tuple[str, Schema]] = []

    def plan(self, path: str, schema: Schema) -> None:
        """Add the sections of an object, which is the value of the field `path`, and of the objects below it."""
        key = _key(schema)
        if key in self._headings:
            return
        self._headings[key] = path
        self._objects.append((path, schema))
        for name, child in schema["properties"].items():
            for below, suffix in _objects(child):
                self.plan(f"{path}.{name}{suffix}", below)

    def render(self) -> Iterator[str]:
        """Yield the sections as Markdown."""
        for path, schema in self._objects:
            text = [plain(schema.get("description", ""))]
            if schema.get("x-kubernetes-preserve-unknown-fields"):
                text.append("Other fields are accepted too.")
            yield f"## {path}\n\n{' '.join(text).strip()}\n\n{_rules_list(schema)}".replace("\n\n\n\n", "\n\n")
            required = set(schema.get("required", ()))
            rows = [
                [_name(name, required), self._type(child), _explained(child)]
                for name, child in schema["properties"].items()
            ]
            yield table(["field", "type", "description"], rows) + "\n"

    def _type(self, schema: Schema) -> str:
        """Return the type of a field, with a link to the section of its object."""
        if schema["type"] == "array" if "type" in schema else False:
            return f"list of {self._type(schema['items'])}"
        if "properties" in schema:
            return f"[object](#{anchor(self._headings[_key(schema)])})"
        if "additionalProperties" in schema:
            return f"map of {self._type(schema['additionalProperties'])}"
        if schema.get("x-kubernetes-int-or-string"):
            return "integer or string"
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return "object with any fields"
        name = str(schema["type"])
        return f"{name} ({schema['format']})" if "format" in schema else name


def _objects(schema: Schema) -> Iterator[tuple[Schema, str]]:
    """Yield the object that is the value of a field, an item of its list or an entry of its map."""
    if "properties" in schema:
        yield schema, ""
    elif "items" in schema:
        for below, suffix in _objects(schema["items"]):
            yield below, f"[]{suffix}"
    elif isinstance(schema.get("additionalProperties"), dict):
        for below, suffix in _objects(schema["additionalProperties"]):
            yield below, f".*{suffix}"


def _key(schema: Schema) -> str:
    return json.dumps({name: part for name, part in schema.items() if name not in _OF_THE_FIELD}, sort_keys=True)


def _name(name: str, required: set[str]) -> str:
    return f"{code(name)} **required**" if name in required else code(name)


def _explained(schema: Schema) -> str:
    """Return the description of a field, its default and its rules."""
    sentences = [plain(schema.get("description", "")), *_limits(schema)]
    if "items" in schema and "properties" not in schema["items"]:
        sentences += [f"Each item: {limit[0].lower()}{limit[1:]}" for limit in _limits(schema["items"])]
    values = schema.get("additionalProperties")
    if isinstance(values, dict) and "properties" not in values:
        sentences += [f"Each value: {limit[0].lower()}{limit[1:]}" for limit in _limits(values)]
    if "properties" not in schema:
        sentences += [f"Rule: {rule}" for rule in dict.fromkeys(_rules(schema))]
    if "default" in schema and f"Defaults to {json.dumps(schema['default']).strip(chr(34))}." not in sentences[0]:
        sentences.append(f"Default: {value(schema['default'])}.")
    return "<br>".join(sentence for sentence in sentences if sentence)


def _limits(schema: Schema) -> Iterator[str]:
    """Yield a sentence for each keyword that limits the values of a field."""
    if "enum" in schema:
        yield f"One of {', '.join(value(item) for item in schema['enum'])}."
    yield from bounds(schema)
    if "pattern" in schema:
        yield f"Matches {code(schema['pattern'])}."
    if "x-kubernetes-list-map-keys" in schema:
        yield f"Items differ in {', '.join(code(key) for key in schema['x-kubernetes-list-map-keys'])}."
    if schema.get("x-kubernetes-list-type") == "set":
        yield "Items are distinct."


def _rules(schema: Schema) -> Iterator[str]:
    """Yield a sentence for each validation rule in the Common Expression Language."""
    for rule in schema.get("x-kubernetes-validations", ()):
        text = rule.get("message")
        yield f"{plain(text)}." if text else f"{code(rule['rule'])}."


def _rules_list(schema: Schema) -> str:
    # Several rules may have one message.
    rules = dict.fromkeys(f"- {rule}\n" for rule in _rules(schema))
    return f"The API server refuses objects that break one of these rules:\n\n{''.join(rules)}\n" if rules else ""


def _columns(columns: list[dict[str, Any]]) -> str:
    rows = [
        [column["name"] + (" (with `-o wide`)" if column.get("priority") else ""), plain(column["description"])]
        for column in columns
    ]
    return "Columns of `kubectl get`:\n\n" + table(["column", "content"], rows) + "\n"
