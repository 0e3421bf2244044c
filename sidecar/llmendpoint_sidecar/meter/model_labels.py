"""Which names may become a label: those that Ollama itself lists. Everything else is `other`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from llmendpoint_common.contracts.ollama import canonical_name

OTHER = "other"
MAX_MODELS = 128
_MAX_DEFERRED = 4096


class ModelLabels:
    """The models that Ollama lists, and the accounts that wait for a name that is not listed yet.

    A model pulled a second ago is answered before it is listed here; its request is accounted after the next look.
    """

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        self.wanted = asyncio.Event()
        #: Listed models that run elsewhere (`:cloud`): their tokens are not this GPU's.
        self.remote: frozenset[str] = frozenset()
        self._on_overflow = on_overflow
        self._listed: frozenset[str] = frozenset()
        self._labels: set[str] = set()
        self._known: dict[str, str] = {}
        self._deferred: list[tuple[str, Callable[[str], None]]] = []

    def label(self, name: str) -> str:
        """Return the label of a model's name."""
        known = self._known.get(name)
        if known is not None:
            return known
        canonical = canonical_name(name)
        if canonical not in self._listed:
            return OTHER
        if canonical not in self._labels:
            if len(self._labels) >= MAX_MODELS:
                return OTHER
            self._labels.add(canonical)
        self._known[name] = canonical
        return canonical

    def known(self, name: str) -> str | None:
        """Return the label of a listed model; None where it has to be looked at closer."""
        return self._known.get(name)

    def when_listed(self, name: str, account: Callable[[str], None]) -> None:
        """Call `account(label)`: at once for a known name, else after the next listing."""
        if canonical_name(name) in self._listed or not name or len(self._deferred) >= _MAX_DEFERRED:
            account(self._accounted(name))
            return
        self._deferred.append((name, account))
        self.wanted.set()

    def list(self, names: Iterable[str], remote: Iterable[str] = ()) -> None:
        """Take what `/api/tags` lists now; a label that was given once stays."""
        self.remote = frozenset(remote)
        self._listed = frozenset(names) | self._labels
        self._known.clear()
        self.settle()

    def settle(self) -> None:
        """Account what waited, with the names known now."""
        deferred, self._deferred = self._deferred, []
        for name, account in deferred:
            account(self._accounted(name))

    def _accounted(self, name: str) -> str:
        """Return the label of a request's model, counting one that is `other` only because there are too many."""
        label = self.label(name)
        if label == OTHER and canonical_name(name) in self._listed:
            self._on_overflow()
        return label
