"""Tables of the objects of a kind, by NAMESPACE/NAME. Their size is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from llmendpoint_dashboard.cluster.reflector import Manifest

T = TypeVar("T")


class Table(Generic[T]):
    """Receives objects from reflectors and keeps what `read` makes of them, at most `limit` values.

    If there are more, those with the lowest `rank` are forgotten. `changed` is called with the key of each value that
    is new or has changed, `removed` with each key that is gone.
    """

    def __init__(
        self,
        read: Callable[[Manifest], T],
        changed: Callable[[str], None],
        removed: Callable[[str], None],
        rank: Callable[[T], Any],
        limit: int,
    ) -> None:
        self._read = read
        self._changed = changed
        self._removed = removed
        self._rank = rank
        self._limit = limit
        self._values: dict[str, T] = {}
        self._unseen: dict[str, set[str]] = {}
        #: Whether a value had to be forgotten.
        self.is_cut = False

    def __getitem__(self, key: str) -> T:
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        """Return a value, or None."""
        return self._values.get(key)

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield all keys and values."""
        yield from self._values.items()

    def values(self) -> Iterator[T]:
        """Yield all values."""
        yield from self._values.values()

    def begin(self, scope: str) -> None:
        """Start a listing of a namespace, or of all namespaces if `scope` is empty."""
        self._unseen[scope] = {key for key in self._values if not scope or key.startswith(f"{scope}/")}

    def end(self, scope: str) -> None:
        """End a listing: what it has not shown no longer exists."""
        for key in self._unseen.pop(scope, set()):
            self._drop(key)

    def show(self, body: Manifest) -> None:
        """Record an object."""
        key = key_of(body)
        for unseen in self._unseen.values():
            unseen.discard(key)
        self._values[key] = self._read(body)
        self._changed(key)
        if len(self._values) > self._limit:
            self.is_cut = True
            self._drop(min(self._values, key=lambda each: self._rank(self._values[each])))

    def gone(self, body: Manifest) -> None:
        """Record the deletion of an object."""
        self._drop(key_of(body))

    def _drop(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            self._removed(key)


def key_of(body: Manifest) -> str:
    """Return NAMESPACE/NAME of an object."""
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"
