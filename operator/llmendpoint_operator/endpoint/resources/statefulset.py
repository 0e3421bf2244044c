"""StatefulSet of an endpoint: one pod per replica, with a model cache of its own.

`podManagementPolicy: Parallel`, because a node rarely has a spare GPU for an additional pod: replacing each replica in
its place is the only rolling update that cannot deadlock.
"""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.pod.metering import metering_container
from llmendpoint_operator.endpoint.pod.ollama import ollama_container
from llmendpoint_operator.endpoint.pod.overlay import overlay, template_problem
from llmendpoint_operator.endpoint.pod.scheduling import scheduling
from llmendpoint_operator.endpoint.pod.volumes import claim_templates, pod_volumes
from llmendpoint_operator.kube import pod_security
from llmendpoint_operator.kube.literal import literal_pod
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.kube.pod_fields import pull_secrets
from llmendpoint_operator.settings import ChildSettings


def statefulset(owner: Owner, spec: LLMEndpointSpec, settings: ChildSettings, replicas: int | None) -> Manifest:
    """Return the StatefulSet. If `replicas` is None, the number of pods is not the operator's to write."""
    policy = spec.storage.retention_policy
    templates = claim_templates(spec)
    return {
        **owner.child("StatefulSet", layout.statefulset_name(owner), layout.COMPONENT),
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "serviceName": layout.headless_service_name(owner),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": layout.selector(owner)},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": policy.when_deleted.value,
                "whenScaled": policy.when_scaled.value,
            },
            "template": {
                "metadata": _pod_metadata(owner, spec),
                "spec": literal_pod(overlay(_pod(owner, spec, settings), spec.pod_template)),
            },
            **({"volumeClaimTemplates": templates} if templates else {}),
        },
    }


def _pod_metadata(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return labels and annotations of the pods. The spec can choose another default container for kubectl."""
    return {
        "labels": owner.pod_labels(layout.COMPONENT, spec.pod.labels),
        "annotations": {
            "kubectl.kubernetes.io/default-container": layout.METERING_CONTAINER,
            **spec.pod.annotations,
        },
    }


def _pod(owner: Owner, spec: LLMEndpointSpec, settings: ChildSettings) -> Manifest:
    images = settings.images
    return {
        "serviceAccountName": spec.pod.service_account_name or layout.service_account_name(owner),
        "automountServiceAccountToken": False,
        # Service links add variables that are named after Services; a Service called llmendpoint-sidecar would set
        # variables with the prefix of the sidecar's settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.pod.termination_grace_period_seconds,
        "securityContext": pod_security.pod_security_context(settings.openshift, spec.pod.security_context),
        "initContainers": [ollama_container(spec, images)],
        "containers": [metering_container(spec, images)],
        "volumes": pod_volumes(owner, spec),
        **scheduling(spec, layout.selector(owner)),
        **pull_secrets(spec.pod.image_pull_secrets, images.pull_secrets),
    }


def pod_template_problem(statefulset: Manifest, template: Manifest | None) -> str:
    """Return sentences if `spec.podTemplate` does not fit the pods of a rendered StatefulSet, otherwise nothing."""
    spec = statefulset["spec"]
    claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    return template_problem(spec["template"]["spec"], claims, template)
