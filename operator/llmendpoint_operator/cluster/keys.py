"""Names of objects, used as keys of dictionaries and of the work queue."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """The name of one of our resources. The work queue reconciles these keys."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class ChildKey(NamedTuple):
    """The name of a child of a resource. A child is in the namespace of its owner."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"
