"""Names of objects: keys of dictionaries and of the work queue."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """Names one of our resources. The work queue reconciles keys."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class ChildKey(NamedTuple):
    """Names one child of a resource; it is in the namespace of its owner."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
