"""Values of the label model_name: names that Ollama lists, and `other` for all other names.

Therefore clients cannot create series, and text of a client never becomes a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from llmendpoint_common.contracts.ollama import canonical_name

OTHER = "other"
#: Maximum number of labels per process. Further models are `other`. A model has up to eleven histograms per operation.
MAX_MODELS = 128
#: Maximum number of requests that wait until their model is listed. Further requests are recorded immediately.
_MAX_DEFERRED = 4096


class ModelLabels:
    """The models that Ollama lists, and requests whose model is not listed yet.

    A model can answer requests before the next poll of `/api/tags` lists it. Such requests are recorded after the poll.
    """

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        #: Set when a poll is needed, because requests wait for it.
        self.wanted = asyncio.Event()
        #: Listed models that run on another host (`:cloud`).
        self.remote: frozenset[str] = frozenset()
        self._on_overflow = on_overflow
        self._listed: frozenset[str] = frozenset()
        self._labels: set[str] = set()
        self._known: dict[str, str] = {}
        self._deferred: list[Callable[[], None]] = []

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
        """Return the label of a name that was looked up before; None for any other name."""
        return self._known.get(name)

    def counted(self, name: str) -> str:
        """Return the label under which a request is counted.

        Count an overflow if it is `other` because there are too many models.
        """
        label = self.label(name)
        if label == OTHER and canonical_name(name) in self._listed:
            self._on_overflow()
        return label

    def when_listed(self, name: str, record: Callable[[], None]) -> None:
        """Call `record`: immediately if the name is listed, otherwise after the next poll. `record` raises nothing."""
        if canonical_name(name) in self._listed or len(self._deferred) >= _MAX_DEFERRED:
            record()
            return
        self._deferred.append(record)
        self.wanted.set()

    def list(self, names: Iterable[str], remote: Iterable[str] = ()) -> None:
        """Replace the listed models. Labels that have been used stay valid."""
        self.remote = frozenset(remote)
        self._listed = frozenset(names) | self._labels
        self._known.clear()
        self.settle()

    def settle(self) -> None:
        """Record the requests that wait, with the names that are listed now."""
        deferred, self._deferred = self._deferred, []
        for record in deferred:
            record()
