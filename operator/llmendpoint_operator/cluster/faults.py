"""Classifies refused writes: one `Fault` per refused child, for conditions, Events and retries.

The message of a fault quotes the API server, and then gives advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault

_ADVICE = {
    FaultReason.NAME_CONFLICT: "Delete it, or give this resource another name.",
    FaultReason.FORBIDDEN: "Grant the operator's ServiceAccount the permissions in the chart's roles.",
    FaultReason.QUOTA_EXCEEDED: "Raise the ResourceQuota of the namespace, request less, or delete objects that are "
    "not needed.",
    FaultReason.ADMISSION_DENIED: "Change the spec or the admission policy, or repair the webhook if it failed.",
    FaultReason.INVALID: "Correct the field of the spec that sets the invalid value.",
    FaultReason.CONFLICT: "Another client changed the object at the same time. No action is needed: the operator tries "
    "again.",
    FaultReason.UNKNOWN_KIND: "Install the CustomResourceDefinition of this kind.",
    FaultReason.NAMESPACE_TERMINATING: "Create this resource in another namespace.",
    FaultReason.UNAVAILABLE: "The operator tries again. If this does not change, check the API server.",
}
_KIND_ADVICE = {
    (
        FaultReason.UNKNOWN_KIND,
        "ServiceMonitor",
    ): "Install the Prometheus Operator, or set spec.monitoring.mode to None.",
}
_BY_CODE: dict[int, FaultReason] = {
    HTTPStatus.UNAUTHORIZED: FaultReason.FORBIDDEN,
    HTTPStatus.FORBIDDEN: FaultReason.FORBIDDEN,
    HTTPStatus.BAD_REQUEST: FaultReason.INVALID,
    # A missing kind is recognized before this table is used, so the namespace is missing.
    HTTPStatus.NOT_FOUND: FaultReason.NAMESPACE_TERMINATING,
    HTTPStatus.CONFLICT: FaultReason.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY: FaultReason.INVALID,
}
#: Reasons by a part of the message. They take precedence over `_BY_CODE`, because several reasons have the same code.
_BY_TEXT = (
    # The object that a write was meant for has been replaced by another one (422).
    ("metadata.uid: Invalid value", FaultReason.CONFLICT),
    ("is being terminated", FaultReason.NAMESPACE_TERMINATING),
    ("custom resource definition is terminating", FaultReason.UNKNOWN_KIND),
    ("exceeded quota", FaultReason.QUOTA_EXCEEDED),
    ("admission webhook", FaultReason.ADMISSION_DENIED),
    ("failed calling webhook", FaultReason.ADMISSION_DENIED),
    ("ValidatingAdmissionPolicy", FaultReason.ADMISSION_DENIED),
)


@dataclass(frozen=True)
class Refusal:
    """An error response. `named` is False if it does not name an object, for example because it is plain text."""

    code: int
    message: str
    named: bool
    retry_after: float | None


def classify(error: Exception, child: ChildKey) -> Fault:
    """Return the fault for a write that raised one of `API_ERRORS`."""
    if not isinstance(error, ApiException):
        return _fault(FaultReason.UNAVAILABLE, child, f"The API server does not answer: {describe(error)}")
    refusal = read_refusal(error)
    if is_unknown_kind(error):
        return unknown_kind(child)
    return _fault(_reason(refusal), child, refusal.message, refusal.retry_after)


def describe(error: Exception) -> str:
    """Return an error as one line, for the log."""
    if isinstance(error, ApiException):
        return f"{error.status} {' '.join(read_refusal(error).message.split())}"
    return str(error) or type(error).__name__


def unknown_kind(child: ChildKey) -> Fault:
    """Return the fault for a child whose kind the cluster does not have."""
    return _fault(FaultReason.UNKNOWN_KIND, child, f"The cluster does not have the kind {child.kind}")


def name_conflict(child: ChildKey, owner_kind: str) -> Fault:
    """Return the fault for a child whose name is used by another object."""
    return _fault(FaultReason.NAME_CONFLICT, child, f"{child} exists but does not belong to this {owner_kind}")


def is_unknown_kind(error: Exception) -> bool:
    """Return whether a request failed because the cluster does not have the kind.

    The path of the request does not exist then. The response is a 404 in plain text, or a Status that does not name an
    object.
    """
    return isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND and not read_refusal(error).named


def read_refusal(error: ApiException) -> Refusal:
    """Parse an error response, whose body is a Status in JSON or plain text."""
    text = _text(error)
    try:
        status = msgspec.json.decode(text)
    except msgspec.DecodeError:
        status = None
    code = int(error.status or 0)
    if not isinstance(status, dict):
        return Refusal(code, text.strip() or str(error.reason), False, _retry_after(error, {}))
    details = status.get("details") or {}
    message = str(status.get("message") or status.get("reason") or error.reason)
    return Refusal(code, message, bool(details.get("name")), _retry_after(error, details))


def _text(error: ApiException) -> str:
    body = error.body
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")


def _retry_after(error: ApiException, details: dict[str, Any]) -> float | None:
    header = (error.headers or {}).get("Retry-After", "")
    seconds = header if str(header).isdigit() else details.get("retryAfterSeconds")
    return float(seconds) if seconds else None


def _reason(refusal: Refusal) -> FaultReason:
    for words, reason in _BY_TEXT:
        if words in refusal.message:
            return reason
    return _BY_CODE.get(refusal.code, FaultReason.UNAVAILABLE)


def _fault(reason: FaultReason, child: ChildKey, words: str, retry_after: float | None = None) -> Fault:
    advice = _KIND_ADVICE.get((reason, child.kind)) or _ADVICE[reason]
    sentence = words.rstrip(". ")
    about = sentence if child.name in sentence else f"{child}: {sentence}"
    return Fault(reason, str(child), f"{about}. {advice}", retry_after)
