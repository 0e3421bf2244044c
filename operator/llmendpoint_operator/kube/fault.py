"""A refused write of a child, classified. Conditions and Events are created from it."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import FaultReason


@dataclass(frozen=True)
class Fault:
    """The reason for which the API server, or the operator itself, refused to write a child.

    `child` is "Kind/name". `message` is for users: it names the refused child and gives advice. `retry_after` is the
    number of seconds until the next attempt, or None if the spec or the cluster has to change first.
    """

    reason: FaultReason
    child: str
    message: str
    retry_after: float | None = None

    @property
    def kind(self) -> str:
        """The kind of the child."""
        return self.child.partition("/")[0]
