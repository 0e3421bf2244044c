"""The optional kinds that a cluster has. Builders of children read them, so that they stay pure functions.

Discovery learns from the watches and from refused writes which kinds of the table a cluster lacks. When an optional
kind appears or goes, all endpoints are reconciled again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from llmendpoint_operator.cluster.kinds import TABLE

_OPTIONAL = frozenset(kind.name for kind in TABLE if kind.optional)


@dataclass(frozen=True)
class Capabilities:
    """The names of the optional kinds that a cluster has, for example ServiceMonitor."""

    kinds: frozenset[str]

    def has(self, kind: str) -> bool:
        """Return whether the cluster has an optional kind."""
        return kind in self.kinds


#: A cluster that has all optional kinds.
ALL_KINDS = Capabilities(_OPTIONAL)


def capabilities_without(missing: Collection[str]) -> Capabilities:
    """Return the capabilities of a cluster that lacks some kinds of the table.

    A kind that has not been looked for yet counts as present: if it is not, the write is refused, and then it is known.
    """
    return _without(frozenset(missing))


# Renderings keep the capabilities of each endpoint, so equal ones should be one object.
@lru_cache(maxsize=16)
def _without(missing: frozenset[str]) -> Capabilities:
    return Capabilities(_OPTIONAL - missing)
