"""A kind that the operator is not permitted to watch. What the inventory has of it may be outdated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmendpoint_operator.cluster.kinds import KINDS


@dataclass(frozen=True)
class Unwatched:
    """A kind that cannot be watched in a scope: a namespace, or the whole cluster if `scope` is empty.

    `trouble` is what the API server answered.
    """

    kind: str
    scope: str
    trouble: str


def sentence(lost: Sequence[Unwatched]) -> str:
    """Return what cannot be watched in one scope, and what to do. `lost` has at least one kind."""
    first = lost[0]
    where = f"in namespace {first.scope}" if first.scope else "in the cluster"
    advice = "Give its ServiceAccount the permissions of the chart"
    advice += " in this namespace, or remove it from --namespace." if first.scope else "'s ClusterRole."
    names = ", ".join(each.kind for each in lost)
    return f"The operator cannot watch {names} {where}: {first.trouble.rstrip('.')}. {advice}"


def required(lost: Iterable[Unwatched]) -> list[Unwatched]:
    """Return the kinds that every cluster has. Without the right to list it, an optional kind may also be missing."""
    return [each for each in lost if not KINDS[each.kind].optional]
