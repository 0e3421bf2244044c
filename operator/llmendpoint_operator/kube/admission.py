"""Recognizes what the API server refused, by its words: a reason for conditions, and advice for the user.

The same sentences arrive in two ways. The operator gets them as responses to its own writes. If admission refuses a pod
or a claim, the StatefulSet or Job controller gets them, and quotes them in a Warning Event.

The texts are those of Kubernetes 1.35 (`plugin/pkg/admission` and `apiserver/pkg/admission/plugin`). They have hardly
changed since 1.29.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

from llmendpoint_common.contracts.cluster import FaultReason

_RETRIED = "The operator tries again."


class Refusal(NamedTuple):
    """The reason of a refusal, and what to do about it."""

    reason: FaultReason
    advice: str


#: The first pattern that matches decides. Several refusals have the same HTTP status, so the words come first.
_BY_WORDS: tuple[tuple[str, FaultReason, str], ...] = (
    # The object that a write was meant for has been replaced by another one (422).
    (r"metadata\.uid: Invalid value", FaultReason.CONFLICT, ""),
    (r"is being terminated", FaultReason.NAMESPACE_TERMINATING, ""),
    (r"custom resource definition is terminating", FaultReason.UNKNOWN_KIND, ""),
    (
        r"failed quota: .*must specify",
        FaultReason.QUOTA_EXCEEDED,
        "The ResourceQuota requires that every container has these requests and limits. Set them in "
        "spec.ollama.resources and spec.metering.resources (for a LoadTest, in spec.pod.resources), or add a "
        "LimitRange "
        "with defaults to the namespace.",
    ),
    (
        r"status unknown for quota",
        FaultReason.QUOTA_EXCEEDED,
        "Kubernetes has not computed the usage of the ResourceQuota yet. If this does not change, check the "
        "kube-controller-manager.",
    ),
    (r"exceeded quota|insufficient quota", FaultReason.QUOTA_EXCEEDED, ""),
    # plugin/pkg/admission/storage/persistentvolume/resize
    (r"storageclass that provisions the pvc must support resize", FaultReason.NOT_EXPANDABLE, ""),
    (
        r"(minimum|maximum) \S+ usage per \w+ is|max limit to request ratio per",
        FaultReason.LIMIT_RANGE,
        "Change the requests, limits or storage size in the spec, or the LimitRange of the namespace.",
    ),
    (
        r"must be less than or equal to \S+ limit",
        FaultReason.INVALID,
        "The request is above the limit. If the spec does not set this limit, a LimitRange of the namespace does: "
        "set the "
        "limit and the request in the resources of the spec (initContainers[0] is Ollama: spec.ollama.resources), or "
        "change the default of the LimitRange.",
    ),
    (
        r"no PriorityClass with name",
        FaultReason.REFERENCE_NOT_FOUND,
        "Create it, or correct spec.pod.priorityClassName.",
    ),
    (
        r"RuntimeClass \S+ not found",
        FaultReason.REFERENCE_NOT_FOUND,
        "Create it, or correct spec.gpu.runtimeClassName.",
    ),
    (
        r"error looking up service account",
        FaultReason.REFERENCE_NOT_FOUND,
        "The ServiceAccount is missing. If spec.pod.serviceAccountName names it, create it, or correct the field. "
        "Otherwise it is the operator's, and the operator creates it again.",
    ),
    (
        r"failed calling webhook",
        FaultReason.WEBHOOK_FAILED,
        "The webhook itself does not work. Repair it, or ask its owner to set its failurePolicy to Ignore. "
        "The spec is not the cause.",
    ),
    (
        r"admission webhook .* denied the request",
        FaultReason.ADMISSION_DENIED,
        "Change the spec as the webhook requires, or ask the owner of the webhook.",
    ),
    (
        r"ValidatingAdmissionPolicy|policy '.*' denied request",
        FaultReason.ADMISSION_DENIED,
        "Change the spec as the policy requires, or ask an administrator to change the ValidatingAdmissionPolicy.",
    ),
    (
        r"violates PodSecurity",
        FaultReason.ADMISSION_DENIED,
        "The namespace enforces a Pod Security Standard that the pod does not meet: change the spec, or the label "
        "pod-security.kubernetes.io/enforce of the namespace.",
    ),
    (
        r"security context constraint",
        FaultReason.ADMISSION_DENIED,
        "On OpenShift, install the operator with platform.openshift, or grant the pod's ServiceAccount a "
        "SecurityContextConstraints that allows the pod.",
    ),
    # structured-merge-diff, for which the API server has the status 500. Most of these objects come from podTemplate.
    (
        r"(?s); ((apps|autoscaling|batch|networking\.k8s\.io|policy)/)?v\w+, Kind=\w+\): "
        r".*field not declared in schema",
        FaultReason.INVALID,
        "This version of Kubernetes does not have the field. Correct its name in the spec, or remove it.",
    ),
    (
        r"field not declared in schema",
        FaultReason.INVALID,
        "The CustomResourceDefinition of this kind is too old for this field. Upgrade it.",
    ),
    (r"failed to create typed patch object", FaultReason.INVALID, ""),
    (r"cannot \S+ resource|cannot set blockOwnerDeletion|attempting to grant RBAC", FaultReason.FORBIDDEN, ""),
)
_BY_CODE: dict[int, FaultReason] = {
    HTTPStatus.UNAUTHORIZED: FaultReason.FORBIDDEN,
    # RBAC has been recognized by its words. Other refusals with this status come from admission plugins.
    HTTPStatus.FORBIDDEN: FaultReason.ADMISSION_DENIED,
    HTTPStatus.BAD_REQUEST: FaultReason.INVALID,
    # A missing kind is recognized before this table is used, so the namespace is missing.
    HTTPStatus.NOT_FOUND: FaultReason.NAMESPACE_TERMINATING,
    HTTPStatus.CONFLICT: FaultReason.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: FaultReason.INVALID,
    HTTPStatus.UNPROCESSABLE_ENTITY: FaultReason.INVALID,
}
ADVICE = {
    FaultReason.NAME_CONFLICT: "Delete it, or give this resource another name.",
    FaultReason.FORBIDDEN: "Grant the operator's ServiceAccount the permissions in the chart's roles.",
    FaultReason.QUOTA_EXCEEDED: "Raise the ResourceQuota of the namespace, request less, or delete objects that are "
    "not needed.",
    FaultReason.LIMIT_RANGE: "Change the requests and limits in the spec, or the LimitRange of the namespace.",
    FaultReason.ADMISSION_DENIED: "Change the spec as the admission plugin requires, or ask an administrator.",
    FaultReason.WEBHOOK_FAILED: "Repair the webhook.",
    FaultReason.REFERENCE_NOT_FOUND: "Create it, or correct the field of the spec that names it.",
    FaultReason.INVALID: "Correct the field of the spec that sets the invalid value.",
    FaultReason.NOT_EXPANDABLE: "Ask an administrator to set allowVolumeExpansion: true in the StorageClass of the "
    "claim, if its driver can resize volumes, or create another LLMEndpoint with the larger storage. The pods keep "
    "their storage.",
    FaultReason.CONFLICT: "Another client changed the object at the same time. No action is needed: the operator tries "
    "again.",
    FaultReason.UNKNOWN_KIND: "Install the CustomResourceDefinition of this kind.",
    FaultReason.NAMESPACE_TERMINATING: "Create this resource in another namespace.",
    FaultReason.UNAVAILABLE: f"{_RETRIED} If this does not change, check the API server.",
}
_OVERLOADED = f"The API server limits the rate of requests. {_RETRIED} If this does not change, check the FlowSchemas."


def refusal(code: int, message: str) -> Refusal:
    """Return the reason and the advice for a response with this status and message."""
    for words, reason, advice in _BY_WORDS:
        if re.search(words, message):
            return Refusal(reason, advice or ADVICE[reason])
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return Refusal(FaultReason.UNAVAILABLE, _OVERLOADED)
    reason = _BY_CODE.get(code, FaultReason.UNAVAILABLE)
    return Refusal(reason, ADVICE[reason])


def quoted_refusal(message: str) -> Refusal | None:
    """Return the reason and the advice for a refusal that a controller quotes, or None if it is not recognized."""
    code = HTTPStatus.UNPROCESSABLE_ENTITY if " is invalid: " in message else 0
    if " is forbidden: " in message:
        code = HTTPStatus.FORBIDDEN
    found = refusal(code, message)
    return None if found.reason is FaultReason.UNAVAILABLE else found
