"""The children that no watch shows although they may exist: somebody may have removed the operator's label from them.

The API server reports an object that leaves the selector of a watch as deleted, and a listing does not have it.
Therefore such a child is read by its name before anything is decided from its absence.
"""

from __future__ import annotations

from llmendpoint_operator.cluster.keys import ChildKey, Key


class Unshown:
    """The names of these children, by owner."""

    def __init__(self) -> None:
        self._names: dict[Key, set[ChildKey]] = {}

    def of(self, key: Key) -> tuple[ChildKey, ...]:
        """Return the names of an owner's children that have to be read."""
        return tuple(sorted(self._names.get(key, ())))

    def has(self, key: Key, name: ChildKey) -> bool:
        """Return whether this child has to be read."""
        return name in self._names.get(key, ())

    def add(self, key: Key, name: ChildKey) -> None:
        """Record that no watch shows a child any more."""
        self._names.setdefault(key, set()).add(name)

    def discard(self, key: Key, name: ChildKey) -> None:
        """Record that a watch shows a child, or that it does not exist."""
        names = self._names.get(key)
        if names is not None:
            names.discard(name)
            if not names:
                del self._names[key]
