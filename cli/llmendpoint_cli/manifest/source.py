"""Reads YAML with the position of each field, so that an error can name file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llmendpoint_common.process.errors import ManifestError

#: A manifest is written by people. The API server accepts 1.5 MiB.
_MAX_BYTES = 1536 * 1024
_TIMESTAMP = "tag:yaml.org,2002:timestamp"

Path_ = Sequence[str | int]


class _Loader(yaml.SafeLoader):
    """Reads dates as text, as Kubernetes does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Document(NamedTuple):
    """A document of a file. `body` is its content."""

    file: str
    body: Any
    node: yaml.Node

    def line(self, field: Path_) -> int:
        """Return the line of a field, from 1. If the field does not exist, it is the line of its nearest parent."""
        node: yaml.Node = self.node
        mark = node.start_mark
        for step in field:
            found = _step(node, step)
            if found is None:
                break
            mark, node = found
        return int(mark.line) + 1

    def error(self, field: Path_, sentence: str) -> str:
        """Return an error message: `FILE:LINE: FIELD: SENTENCE`."""
        name = field_name(field)
        return f"{self.file}:{self.line(field)}: {name + ': ' if name else ''}{sentence}"


def read_documents(path: Path) -> tuple[list[Document], bytes]:
    """Return the documents of a file, and its bytes. Raises ManifestError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise ManifestError(f"{path}: the file is larger than {_MAX_BYTES // 1024} KiB")
    return parse_documents(data, str(path)), data


def parse_documents(data: bytes, file: str) -> list[Document]:
    """Return the documents of a YAML text that are not empty. Raises ManifestError, which names the line."""
    found = []
    try:
        loader = _Loader(data)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            _refuse_duplicates(file, node)
            body = loader.construct_document(node)
            if body is not None:
                found.append(Document(file, body, node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise ManifestError(f"{file}:1: not YAML: {str(error).partition(chr(10))[0]}") from None
    return found


def field_name(field: Path_) -> str:
    """Return the path of a field as kubectl writes it, such as `spec.models[0].name`."""
    text = ""
    for step in field:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    return None


def _refuse_duplicates(file: str, node: yaml.Node) -> None:
    """Refuse a field that occurs twice, of which PyYAML would use the last one. The API server refuses it too."""
    waiting, seen_nodes = [node], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen_nodes:
            continue
        seen_nodes.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            waiting += current.value
        elif isinstance(current, yaml.MappingNode):
            names: set[str] = set()
            for key, value in current.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in names:
                        raise ManifestError(f"{file}:{key.start_mark.line + 1}: the field {key.value} occurs twice")
                    names.add(key.value)
                waiting.append(value)
