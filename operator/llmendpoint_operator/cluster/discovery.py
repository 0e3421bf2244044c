"""The kinds of the table that the cluster does not have.

The watches and refused writes report here what they find, so no request is necessary. Children of a missing kind are
not written. A watch of a missing kind is tried again from time to time, and shows when the kind appears.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Discovery:
    """Keeps track of the kinds of the table that the cluster does not have."""

    def __init__(self) -> None:
        self._missing: set[str] = set()
        #: Called with the name of a kind when a refused write shows that it is missing.
        self.on_lost: Callable[[str], None] = lambda _: None

    @property
    def missing(self) -> frozenset[str]:
        """The names of the kinds that the cluster does not have."""
        return frozenset(self._missing)

    def lost(self, kind: str) -> None:
        """Record that the cluster does not have a kind, as a refused write has shown."""
        if kind not in self._missing:
            self.not_found(kind)
            self.on_lost(kind)

    def not_found(self, kind: str) -> None:
        """Record that the cluster does not have a kind, as its watch has shown."""
        if kind not in self._missing:
            log.warning("the cluster does not have the kind %s", kind)
            self._missing.add(kind)

    def found(self, kind: str) -> None:
        """Record that the cluster has a kind."""
        if kind in self._missing:
            log.info("the cluster now has the kind %s", kind)
            self._missing.discard(kind)
