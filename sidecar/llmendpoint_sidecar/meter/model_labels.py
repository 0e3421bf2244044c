"""Values of the label model_name: names that Ollama lists, and `other` for all other names.

Therefore clients cannot create series, and text of a client never becomes a label. Names are compared as Ollama
compares them, so `TINY`, `library/tiny` and `registry.ollama.ai/library/tiny` have the label `tiny:latest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from llmendpoint_common.contracts.ollama import model_key

OTHER = "other"
#: Maximum number of labels per process. Further models are `other`. A model has up to eleven histograms per operation.
MAX_MODELS = 128
#: Maximum number of requests that wait until their model is listed. Further requests are recorded immediately.
_MAX_DEFERRED = 4096
#: Spellings whose label is remembered until the next poll: their number and length. A name has millions of spellings.
_MAX_KNOWN = 1024
_MAX_KNOWN_LENGTH = 256


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
        #: The listed names by their key. A name that has been used as a label stays the one of its key.
        self._listed: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._deferred: list[Callable[[], None]] = []

    def label(self, name: str) -> str:
        """Return the label of a model's name."""
        known = self._known.get(name)
        if known is not None:
            return known
        if not name:
            return OTHER
        key = model_key(name)
        listed = self._listed.get(key)
        if listed is None:
            return OTHER
        if key not in self._labels:
            if len(self._labels) >= MAX_MODELS:
                return OTHER
            self._labels[key] = listed
        if len(self._known) < _MAX_KNOWN and len(name) <= _MAX_KNOWN_LENGTH:
            self._known[name] = listed
        return listed

    def known(self, name: str) -> str | None:
        """Return the label of a name that was looked up before; None for any other name."""
        return self._known.get(name)

    def counted(self, name: str) -> str:
        """Return the label under which a request is counted.

        Count an overflow if it is `other` because there are too many models.
        """
        label = self.label(name)
        if label == OTHER and model_key(name) in self._listed:
            self._on_overflow()
        return label

    def when_listed(self, name: str, record: Callable[[], None]) -> None:
        """Call `record`: immediately if the name is listed, otherwise after the next poll. `record` raises nothing."""
        if model_key(name) in self._listed or len(self._deferred) >= _MAX_DEFERRED:
            record()
            return
        self._deferred.append(record)
        self.wanted.set()

    def list(self, names: Iterable[str], remote: Iterable[str] = ()) -> None:
        """Replace the listed models. Labels that have been used stay valid."""
        self.remote = frozenset(remote)
        self._listed = {model_key(name): name for name in names} | self._labels
        self._known.clear()
        self.settle()

    def settle(self) -> None:
        """Record the requests that wait, with the names that are listed now."""
        deferred, self._deferred = self._deferred, []
        for record in deferred:
            record()
