"""A refused write of a child, classified. Conditions and Events are created from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.kube.conditions import Condition

#: Reasons that only a changed spec or a changed object of the cluster can end, the most urgent first.
_LASTING = (FaultReason.NAME_CONFLICT, FaultReason.INVALID, FaultReason.NOT_EXPANDABLE)


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


#: The API group of monitors. No pod and no client uses them, and MonitoringReady reports whether they are missing.
_MONITORING = "monitoring.coreos.com"
#: The kinds of children that the pods use, and those that clients in the cluster connect to.
USED = frozenset({"ConfigMap", "Service", "ServiceAccount", "StatefulSet"})


def is_lacking_kind(fault: Fault) -> bool:
    """Return whether a monitor was refused because the cluster lacks its kind. It may be a default.

    Other optional kinds, such as HTTPRoute, are only written if the spec asks for them.
    """
    return fault.reason is FaultReason.UNKNOWN_KIND and _is_monitor(fault)


def _is_monitor(fault: Fault) -> bool:
    return KINDS[fault.kind].group == _MONITORING


def needed(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults of the children that the spec needs, name conflicts first."""
    found = [fault for fault in faults if not is_lacking_kind(fault)]
    return sorted(found, key=lambda fault: fault.reason is not FaultReason.NAME_CONFLICT)


def name_conflicts(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults of children whose name is taken by an object of others, which pods or clients may then use."""
    return [fault for fault in faults if fault.reason is FaultReason.NAME_CONFLICT and KINDS[fault.kind].serves]


def final(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults that only a changed spec or a changed object of the cluster can end, name conflicts first.

    Other refusals can pass without either: a quota becomes free, a webhook is repaired, a permission is granted.
    """
    found = [fault for fault in faults if fault.reason in _LASTING and not _is_monitor(fault)]
    return sorted(found, key=lambda fault: _LASTING.index(fault.reason))


def condition_of(kind: str, faults: Sequence[Fault], *, status: bool) -> Condition:
    """Return a condition of type `kind` with the reason of the first fault and the messages of all."""
    return Condition(kind, status, faults[0].reason, in_words(faults))


def in_words(faults: Iterable[Fault]) -> str:
    """Return the messages of faults. Children with the same message, for example about a webhook, share one."""
    children: dict[str, list[Fault]] = {}
    for fault in faults:
        children.setdefault(fault.message.removeprefix(f"{fault.child}: "), []).append(fault)
    return "; ".join(_shared(message, found) for message, found in children.items())


def _shared(message: str, faults: Sequence[Fault]) -> str:
    if len(faults) == 1:
        return faults[0].message
    return f"{', '.join(fault.child for fault in faults)}: {message}"
