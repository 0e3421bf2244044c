"""Classifies what the API server refused: one `Fault` per refused child, for conditions, Events and retries.

The message of a fault is the API server's own sentence, and what to do about it.
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
    FaultReason.FORBIDDEN: "Grant the operator's ServiceAccount this permission, as its chart does.",
    FaultReason.QUOTA_EXCEEDED: "Raise the ResourceQuota of the namespace, or delete what is not needed.",
    FaultReason.ADMISSION_DENIED: "Change the spec or the webhook's policy.",
    FaultReason.INVALID: "Change the field of the spec that it comes from.",
    FaultReason.CONFLICT: "The operator tries again.",
    FaultReason.UNKNOWN_KIND: "Install the CustomResourceDefinition of this kind.",
    FaultReason.NAMESPACE_TERMINATING: "Create the resource in another namespace.",
    FaultReason.UNAVAILABLE: "The operator tries again.",
}
_KIND_ADVICE = {
    (FaultReason.UNKNOWN_KIND, "ServiceMonitor"): "Install the Prometheus Operator, or set monitoring.mode to None.",
}
_BY_CODE: dict[int, FaultReason] = {
    HTTPStatus.UNAUTHORIZED: FaultReason.FORBIDDEN,
    HTTPStatus.FORBIDDEN: FaultReason.FORBIDDEN,
    HTTPStatus.BAD_REQUEST: FaultReason.INVALID,
    # The kind exists, so what is missing is the namespace.
    HTTPStatus.NOT_FOUND: FaultReason.NAMESPACE_TERMINATING,
    HTTPStatus.CONFLICT: FaultReason.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY: FaultReason.INVALID,
}
#: What the text of a refusal says, stronger than its code: the API server has one code for several of these.
_BY_TEXT = (
    ("is being terminated", FaultReason.NAMESPACE_TERMINATING),
    ("custom resource definition is terminating", FaultReason.UNKNOWN_KIND),
    ("exceeded quota", FaultReason.QUOTA_EXCEEDED),
    ("admission webhook", FaultReason.ADMISSION_DENIED),
    ("failed calling webhook", FaultReason.ADMISSION_DENIED),
    ("ValidatingAdmissionPolicy", FaultReason.ADMISSION_DENIED),
)


@dataclass(frozen=True)
class Refusal:
    """A response that is not a success. `named` is False if the response is not about an object: plain text."""

    code: int
    message: str
    named: bool
    retry_after: float | None


def classify(error: Exception, child: ChildKey) -> Fault:
    """Return the fault of a write that raised one of `API_ERRORS`."""
    if not isinstance(error, ApiException):
        return _fault(FaultReason.UNAVAILABLE, child, f"The API server does not answer: {describe(error)}")
    refusal = read_refusal(error)
    if is_unknown_kind(error):
        return unknown_kind(child)
    return _fault(_reason(refusal), child, refusal.message, refusal.retry_after)


def describe(error: Exception) -> str:
    """Return an error as one line for the log."""
    if isinstance(error, ApiException):
        return f"{error.status} {' '.join(read_refusal(error).message.split())}"
    return str(error) or type(error).__name__


def unknown_kind(child: ChildKey) -> Fault:
    """Return the fault of a child whose kind the cluster does not know."""
    return _fault(FaultReason.UNKNOWN_KIND, child, f"The cluster does not know the kind {child.kind}")


def name_conflict(child: ChildKey, owner_kind: str) -> Fault:
    """Return the fault of a child whose name another object has."""
    return _fault(FaultReason.NAME_CONFLICT, child, f"{child} exists but does not belong to this {owner_kind}")


def is_unknown_kind(error: Exception) -> bool:
    """Tell whether a request failed because the cluster does not know the kind.

    The path does not exist then, so the response is 404 in plain text, or a Status without the name of an object.
    """
    return isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND and not read_refusal(error).named


def read_refusal(error: ApiException) -> Refusal:
    """Return what a response says: a Status in JSON, or plain text."""
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
