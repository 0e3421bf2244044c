"""A refused write of one child, classified. Conditions and Events are written from it."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import FaultReason


@dataclass(frozen=True)
class Fault:
    """Why the API server, or the operator itself, refused to write one child.

    `child` is "Kind/name". `message` is read by users: it says what was refused and what to do. `retry_after` is the
    number of seconds after which another try makes sense; None if only a change of the spec or of the cluster helps.
    """

    reason: FaultReason
    child: str
    message: str
    retry_after: float | None = None

    @property
    def kind(self) -> str:
        """The kind of the child."""
        return self.child.partition("/")[0]
