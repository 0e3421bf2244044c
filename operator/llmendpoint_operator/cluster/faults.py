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
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube import admission
from llmendpoint_operator.kube.fault import Fault

#: A message has at most 1024 characters, and the advice comes last.
_MAX_QUOTE = 600
_KIND_ADVICE = {
    (
        FaultReason.UNKNOWN_KIND,
        "ServiceMonitor",
    ): "Install the Prometheus Operator, or set spec.monitoring.mode to None.",
    (
        FaultReason.UNKNOWN_KIND,
        "HTTPRoute",
    ): "Install the Gateway API in version 1.2 or newer, or remove spec.httpRoute.",
    (
        FaultReason.UNKNOWN_KIND,
        "ScaledObject",
    ): "Install KEDA, or set the value autoscaling.actuator of the operator's chart to HPA.",
}


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
    reason, advice = admission.refusal(refusal.code, refusal.message)
    return _fault(reason, child, refusal.message, refusal.retry_after, advice)


def describe(error: Exception) -> str:
    """Return an error as one line, for the log."""
    if isinstance(error, ApiException):
        return f"{error.status} {' '.join(read_refusal(error).message.split())}"
    return reason_of(error)


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


def _fault(
    reason: FaultReason, child: ChildKey, words: str, retry_after: float | None = None, advice: str = ""
) -> Fault:
    advice = _KIND_ADVICE.get((reason, child.kind)) or advice or admission.ADVICE[reason]
    sentence = words.rstrip(". ")
    if len(sentence) > _MAX_QUOTE:
        sentence = f"{sentence[:_MAX_QUOTE]}..."
    about = sentence if child.name in sentence else f"{child}: {sentence}"
    return Fault(reason, str(child), f"{about}. {advice}", retry_after)
