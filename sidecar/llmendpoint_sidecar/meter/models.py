"""Which names may become a label: those that Ollama itself lists. Everything else is `other`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

OTHER = "other"
MAX_MODELS = 128
_MAX_DEFERRED = 4096


def canonical_name(name: str) -> str:
    """Return the name as `/api/tags` lists it: the tag `latest` is written (`tiny` is `tiny:latest`)."""
    last = name.rpartition("/")[2]
    return name if ":" in last else f"{name}:latest"


class ModelDirectory:
    """The models that Ollama lists, and the accounts that wait for a name that is not listed yet.

    A model pulled a second ago is answered before it is listed here; its request is accounted after the next look.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.overflows = 0
        self._listed: frozenset[str] = frozenset()
        self._labels: dict[str, str] = {}
        self._deferred: list[tuple[str, Callable[[str], None]]] = []

    def label(self, name: str) -> str:
        """Return the label of a model's name."""
        canonical = canonical_name(name)
        if canonical not in self._listed:
            return OTHER
        known = self._labels.get(canonical)
        if known is None:
            known = canonical
            if len(self._labels) >= MAX_MODELS:
                known = OTHER
                self.overflows += 1
            else:
                self._labels[canonical] = canonical
        return known

    def when_listed(self, name: str, account: Callable[[str], None]) -> None:
        """Call `account(label)`: at once for a known name, else after the next listing."""
        if canonical_name(name) in self._listed or not name or len(self._deferred) >= _MAX_DEFERRED:
            account(self.label(name) if name else OTHER)
            return
        self._deferred.append((name, account))
        self.wanted.set()

    def list(self, names: Iterable[str]) -> None:
        """Take what `/api/tags` lists now; a label that was given once stays."""
        self._listed = frozenset(names) | frozenset(self._labels)
        self.settle()

    def settle(self) -> None:
        """Account what waited, with the names known now."""
        deferred, self._deferred = self._deferred, []
        for name, account in deferred:
            account(self.label(name))
