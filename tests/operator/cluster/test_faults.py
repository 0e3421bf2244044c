"""Classification of refusals. The messages were recorded from kube-apiserver 1.35."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.faults import classify, describe, is_unknown_kind
from llmendpoint_operator.cluster.keys import ChildKey

CHILD = ChildKey("StatefulSet", "assistant")


def refused(code: int, message: str, details: dict[str, Any] | None = None, **headers: str) -> ApiException:
    """Return the exception of a response with a Status."""
    status = {"kind": "Status", "message": message, "code": code, "details": {"name": "assistant", **(details or {})}}
    return plain(code, json.dumps(status), **headers)


def plain(code: int, text: str, **headers: str) -> ApiException:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiException(http_resp=SimpleNamespace(status=code, reason="", data=text.encode(), headers=named))


FORBIDDEN = 'statefulsets.apps "assistant" is forbidden: User "system:serviceaccount:a:b" cannot patch resource'
QUOTA = 'statefulsets.apps "assistant" is forbidden: exceeded quota: q, requested: count/statefulsets.apps=1, used: 0'
WEBHOOK = 'admission webhook "validate.example.com" denied the request: no GPUs on Fridays'
POLICY = (
    "statefulsets.apps \"assistant\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"
)
UNDECLARED = (
    "failed to create typed patch object (ns/assistant; gateway.networking.k8s.io/v1, Kind=HTTPRoute): "
    ".spec.rules[0].timeouts: field not declared in schema"
)
MISSPELT = (
    "failed to create typed patch object (ns/assistant; apps/v1, Kind=StatefulSet): "
    ".spec.template.spec.dnsConfig.optionz: field not declared in schema"
)
TWICE = (
    "failed to create typed patch object (ns/assistant; apps/v1, Kind=StatefulSet): "
    '.spec.template.spec.containers[name="a"].env: duplicate entries for key [name="A"]'
)
HANGING = (
    'Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: Post '
    '"https://127.0.0.1:9443/?timeout=10s": context deadline exceeded'
)
UNREACHABLE = (
    'Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: Post '
    '"https://w.ns.svc:443/?timeout=10s": service "w" not found'
)
MUST_SPECIFY = (
    'persistentvolumeclaims "assistant" is forbidden: failed quota: compute: must specify limits.cpu for: metering,ollama; '
    "limits.memory for: ollama"
)
LIMIT_RANGE = (
    'statefulsets.apps "assistant" is forbidden: maximum memory usage per Container is 512Mi, but limit is 1Gi'
)
RATIO = (
    'pods "assistant" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000'
)
POD_SECURITY = (
    'pods "assistant" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod must not set '
    "securityContext.runAsNonRoot=false)"
)
BLOCKS = (
    'services "assistant" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can\'t '
    "set finalizers on: , <nil>"
)
MODIFIED = (
    'Operation cannot be fulfilled on statefulsets.apps "assistant": the object has been modified; please apply your '
    "changes to the latest version and try again"
)
TERMINATING = 'statefulsets.apps "assistant" is forbidden: unable to create new content in namespace a because it is being terminated'


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refused(403, FORBIDDEN), FaultReason.FORBIDDEN),
        (refused(401, "Unauthorized"), FaultReason.FORBIDDEN),
        (refused(403, QUOTA), FaultReason.QUOTA_EXCEEDED),
        (refused(403, TERMINATING), FaultReason.NAMESPACE_TERMINATING),
        (refused(404, 'namespaces "a" not found'), FaultReason.NAMESPACE_TERMINATING),
        (refused(400, WEBHOOK), FaultReason.ADMISSION_DENIED),
        (refused(403, WEBHOOK), FaultReason.ADMISSION_DENIED),
        (refused(422, POLICY), FaultReason.ADMISSION_DENIED),
        (refused(500, HANGING), FaultReason.WEBHOOK_FAILED),
        (refused(500, UNREACHABLE), FaultReason.WEBHOOK_FAILED),
        (refused(403, MUST_SPECIFY), FaultReason.QUOTA_EXCEEDED),
        (refused(403, LIMIT_RANGE), FaultReason.LIMIT_RANGE),
        (refused(403, RATIO), FaultReason.LIMIT_RANGE),
        (refused(403, POD_SECURITY), FaultReason.ADMISSION_DENIED),
        (refused(403, "statefulsets.apps \"assistant\" is forbidden: some plugin says no"), FaultReason.ADMISSION_DENIED),
        (refused(403, BLOCKS), FaultReason.FORBIDDEN),
        (refused(413, "Request entity too large: limit is 3145728"), FaultReason.INVALID),
        (refused(422, 'StatefulSet.apps "assistant" is invalid: spec: Forbidden'), FaultReason.INVALID),
        (refused(400, "strict decoding error"), FaultReason.INVALID),
        (refused(409, 'Operation cannot be fulfilled on statefulsets.apps "assistant"'), FaultReason.CONFLICT),
        (plain(404, "404 page not found\n"), FaultReason.UNKNOWN_KIND),
        (plain(404, '{"kind":"Status","message":"the server could not find the requested resource","details":{}}'), FaultReason.UNKNOWN_KIND),
        (refused(403, "create not allowed while custom resource definition is terminating"), FaultReason.UNKNOWN_KIND),
        (refused(500, UNDECLARED), FaultReason.INVALID),
        (refused(500, MISSPELT), FaultReason.INVALID),
        (refused(500, TWICE), FaultReason.INVALID),
        (refused(429, "too many requests"), FaultReason.UNAVAILABLE),
        (refused(503, "etcdserver: leader changed"), FaultReason.UNAVAILABLE),
        (plain(502, "<html>bad gateway</html>"), FaultReason.UNAVAILABLE),
        (aiohttp.ClientConnectionError("connection refused"), FaultReason.UNAVAILABLE),
        (TimeoutError(), FaultReason.UNAVAILABLE),
    ],
)  # fmt: skip
def test_reason(error: Exception, reason: FaultReason) -> None:
    fault = classify(error, CHILD)
    assert fault.reason is reason
    assert fault.child == "StatefulSet/assistant"


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (plain(404, "404 page not found\n"), True),
        (plain(404, '{"kind":"Status","message":"the server could not find the requested resource"}'), True),
        (refused(404, 'statefulsets.apps "assistant" not found'), False),
        (plain(502, "<html>bad gateway</html>"), False),
    ],
)
def test_an_unknown_kind_is_no_missing_object(error: Exception, unknown: bool) -> None:
    assert is_unknown_kind(error) is unknown


@pytest.mark.parametrize(
    ("error", "words", "advice"),
    [
        (refused(403, QUOTA), QUOTA, "Raise the ResourceQuota"),
        (refused(403, FORBIDDEN), FORBIDDEN, "Grant the operator's ServiceAccount"),
        (refused(400, WEBHOOK), f"StatefulSet/assistant: {WEBHOOK}", "ask the owner of the webhook"),
        (refused(422, POLICY), POLICY, "change the ValidatingAdmissionPolicy"),
        (refused(500, HANGING), f"StatefulSet/assistant: {HANGING}", "The webhook itself does not work"),
        (refused(403, MUST_SPECIFY), MUST_SPECIFY, "Set them in spec.ollama.resources and spec.metering.resources"),
        (refused(403, LIMIT_RANGE), LIMIT_RANGE, "or the LimitRange of the namespace"),
        (refused(403, POD_SECURITY), POD_SECURITY, "pod-security.kubernetes.io/enforce"),
        (refused(500, UNDECLARED), UNDECLARED, "too old for this field"),
        (refused(500, MISSPELT), MISSPELT, "Correct its name in the spec"),
        (refused(500, TWICE), TWICE, "Correct the field of the spec"),
        (refused(429, "too many requests"), "StatefulSet/assistant: too many requests", "check the FlowSchemas"),
        (refused(409, MODIFIED), MODIFIED, "No action is needed"),
        (refused(403, TERMINATING), TERMINATING, "Create this resource in another namespace"),
        (TimeoutError(), "StatefulSet/assistant: The API server does not answer: timed out", "tries again"),
    ],
)
def test_the_message_is_the_api_servers_and_says_what_to_do(error: Exception, words: str, advice: str) -> None:
    message = classify(error, CHILD).message
    assert message.startswith(words.rstrip("."))
    assert advice in message


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (refused(429, "busy", Retry_After="7"), 7.0),
        (refused(503, "busy", {"retryAfterSeconds": 3}), 3.0),
        (refused(503, "busy"), None),
        (refused(429, "busy", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), None),
    ],
)
def test_the_api_server_says_when_to_come_back(error: Exception, seconds: float | None) -> None:
    assert classify(error, CHILD).retry_after == seconds


def test_a_long_refusal_leaves_room_for_the_advice() -> None:
    message = classify(refused(422, f'StatefulSet.apps "assistant" is invalid: [{"x" * 5000}]'), CHILD).message
    assert len(message) < 1024
    assert message.endswith("xxx.... Correct the field of the spec that sets the invalid value.")


def test_a_cluster_without_the_prometheus_operator_gets_its_own_advice() -> None:
    fault = classify(plain(404, "404 page not found\n"), ChildKey("ServiceMonitor", "assistant"))
    assert "Install the Prometheus Operator, or set spec.monitoring.mode to None." in fault.message


def test_an_error_is_one_line_in_the_log() -> None:
    assert describe(refused(403, "no\n  way")) == "403 no way"
    assert describe(TimeoutError()) == "timed out"
