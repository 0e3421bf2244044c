"""Pods that do not run, and pods that do not exist: what kubelet, controllers and admission of Kubernetes 1.35 say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.pods.classify import absent_pod_trouble, pod_trouble
from llmendpoint_operator.pods.trouble import Origin, Trouble

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
ORIGIN = Origin(
    gpu="nvidia.com/gpu", gpus=1, fields={"ollama": "spec.ollama.resources"}, memory_limits={"ollama": "3Gi"}
)
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(*containers: dict[str, Any], scheduled: bool = True, **status: Any) -> dict[str, Any]:
    """Return a pod that is not ready, with containers as Ollama, the restartable init container."""
    conditions = [SCHEDULED] if scheduled else []
    return {
        "metadata": {"name": "assistant-0", "uid": "uid-0", "creationTimestamp": ago(hours=1)},
        "status": {"conditions": conditions, "initContainerStatuses": list(containers), **status},
    }


def container(state: dict[str, Any], last: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "ollama", "image": "ollama/ollama:0", "state": state, "lastState": last or {}, **fields}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def running(**time: float) -> dict[str, Any]:
    return {"running": {"startedAt": ago(**time)}}


def ended(reason: str, code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": code, "message": message, "finishedAt": ago(seconds=30)}}


def event(kind: str, name: str, reason: str, message: str, uid: str = "uid-0", **time: float) -> WarningEvent:
    """Return an Event that was repeated for at least a minute. `time` is how long ago it was repeated last."""
    last = NOW - timedelta(**(time or {"seconds": 5}))
    return WarningEvent(kind, name, uid, reason, message, 3, last, min(last, NOW - timedelta(minutes=1)))


def repeated_for(seconds: float, told: WarningEvent) -> WarningEvent:
    return replace(told, first_seen=NOW - timedelta(seconds=seconds), last_seen=NOW)


def classified(body: dict[str, Any], *events: WarningEvent) -> Trouble | None:
    return pod_trouble(body, events, ORIGIN, NOW)


BACK_OFF = waiting("CrashLoopBackOff", "back-off 40s restarting failed container=ollama pod=assistant-0_ns(uid)")
NOT_FOUND = (
    'Back-off pulling image "ollama/ollama:0": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image '
    '"docker.io/ollama/ollama:0": not found'
)
EMPTY_DIR = 'Usage of EmptyDir volume "models" exceeds the limit "10Mi". '
MEMORY: dict[str, Any] = {"resources": {"limits": {"memory": "512Mi"}}, "restartCount": 4}


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        # Out of memory: while it waits, while it runs again, and at the moment when it ended.
        (pod(container(BACK_OFF, ended("OOMKilled", 137), **MEMORY)), "OOMKilled", "than its memory limit of 512Mi (exit code 137, 4 restarts). Raise limits.memory in spec.ollama.resources"),
        (pod(container(running(seconds=5), ended("OOMKilled", 137), **MEMORY)), "OOMKilled", "512Mi"),
        (pod(container(ended("OOMKilled", 137), **MEMORY)), "OOMKilled", "512Mi"),
        # Before Kubernetes 1.33, the status has no limits: the limit of the spec is the best guess.
        (pod(container(BACK_OFF, ended("OOMKilled", 137), restartCount=1)), "OOMKilled", "its memory limit of 3Gi"),
        (pod(container(BACK_OFF, ended("Error", 2, "panic: no space left on device"), restartCount=9)), "CrashLoopBackOff", "it ended with exit code 2, and Kubernetes restarts it again and again. Its last words: panic: no space left on device."),
        (pod(container(running(seconds=5), ended("Error", 139), restartCount=3)), "CrashLoopBackOff", "exit code 139 (segmentation fault)"),
        (pod(container(waiting("ImagePullBackOff", NOT_FOUND))), "ImagePullFailed", "the image ollama/ollama:0 cannot be pulled. Check its name"),
        (pod(container(waiting("ErrImagePull", "pull access denied"))), "ImagePullFailed", "Kubernetes: pull access denied."),
        (pod(container(waiting("InvalidImageName", 'couldn\'t parse image name "A:b:c"'))), "ImagePullFailed", "couldn't parse"),
        (pod(container(waiting("CreateContainerConfigError", 'secret "keys" not found'))), "ContainerNotStarted", 'Create the object, or correct the spec. Kubernetes: CreateContainerConfigError: secret "keys" not found.'),
        (pod(container(waiting("RunContainerError", "exec: no such file"))), "ContainerNotStarted", "RunContainerError: exec: no such file"),
        (pod(phase="Failed", reason="Evicted", message=EMPTY_DIR), "Evicted", 'exceeds the limit "10Mi". Raise spec.storage.sizeLimit'),
        (pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory. "), "Evicted", "low on resource: memory. Free this resource"),
        (pod(phase="Failed", reason="Evicted", message='Container ollama exceeded its local ephemeral storage limit "1Gi". '), "Evicted", "Request more ephemeral-storage"),
        (pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to no healthy devices"), "PodNotRunning", "UnexpectedAdmissionError: Allocate failed due to no healthy devices"),
    ],
)  # fmt: skip
def test_what_the_status_of_a_pod_tells(body: dict[str, Any], reason: str, words: str) -> None:
    trouble = classified(body)
    assert trouble is not None
    assert trouble.reason == reason
    assert trouble.message.startswith("assistant-0")
    assert words in trouble.message


@pytest.mark.parametrize(
    "body",
    [
        pod(),
        pod(container(waiting("PodInitializing"))),
        pod(container(waiting("ContainerCreating"))),
        pod(container(running(hours=1))),
        # One crash is not a loop. What ended long ago is over, whatever the pod waits for now.
        pod(container(running(seconds=5), ended("Error", 1), restartCount=1)),
        pod(container(running(minutes=11), ended("OOMKilled", 137), restartCount=5)),
        pod(container(running(minutes=11), ended("Error", 1), restartCount=5)),
        # A ready pod has no trouble that matters.
        pod(container(running(seconds=5), ended("OOMKilled", 137)), conditions=[{"type": "Ready", "status": "True"}]),
        pod(phase="Failed"),
    ],
)
def test_a_pod_that_starts_runs_or_has_recovered_is_in_no_trouble(body: dict[str, Any]) -> None:
    assert classified(body) is None


SECRET = 'MountVolume.SetUp failed for volume "keys-0" : secret "keys" not found'
NO_KEY = 'MountVolume.SetUp failed for volume "ca-bundle" : configmap references non-existent config key: ca.crt'
NO_DRIVER = (
    "Failed to prepare dynamic resources: prepare dynamic resources: DRA driver gpu.example.com is not registered"
)
MULTI = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) assistant-1'
SANDBOX = 'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured'
NO_CLASS = 'storageclass.storage.k8s.io "fast" not found'
STARTING = pod(container(waiting("PodInitializing")))
UNSCHEDULED = pod(scheduled=False)


@pytest.mark.parametrize(
    ("body", "told", "reason", "words"),
    [
        (STARTING, event("Pod", "assistant-0", "FailedMount", SECRET), "VolumeNotReady", f"assistant-0: {SECRET}. Create the missing object"),
        (STARTING, event("Pod", "assistant-0", "FailedMount", NO_KEY), "VolumeNotReady", "Add the key to the ConfigMap or Secret"),
        (STARTING, event("Pod", "assistant-0", "FailedPrepareDynamicResources", NO_DRIVER), "ContainerNotStarted", "Check the DRA driver of the devices on the node"),
        (STARTING, event("Pod", "assistant-0", "FailedAttachVolume", MULTI), "VolumeNotReady", "The access mode of the claim allows one node only"),
        (STARTING, event("Pod", "assistant-0", "FailedCreatePodSandBox", SANDBOX), "ContainerNotStarted", "spec.gpu.runtimeClassName"),
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", NO_CLASS, "uid-c"), "VolumeNotReady", f"assistant-0 waits for PersistentVolumeClaim models-assistant-0: {NO_CLASS}. Create the StorageClass."),
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-0", "FailedBinding", "no persistent volumes available", "uid-c"), "VolumeNotReady", "Check the StorageClass"),
        # The predecessor was evicted: its UID is another one.
        (STARTING, event("Pod", "assistant-0", "Evicted", EMPTY_DIR, "uid-before", minutes=2), "Evicted", 'exceeds the limit "10Mi"'),
    ],
)  # fmt: skip
def test_what_only_an_event_tells(body: dict[str, Any], told: WarningEvent, reason: str, words: str) -> None:
    trouble = classified(body, told)
    assert trouble is not None
    assert (trouble.reason, words in trouble.message) == (reason, True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        # About another pod, about the predecessor, or about a container that has been started since.
        (STARTING, event("Pod", "assistant-1", "FailedMount", SECRET)),
        (STARTING, event("Pod", "assistant-0", "FailedMount", SECRET, "uid-before")),
        (pod(container(running(seconds=1))), event("Pod", "assistant-0", "FailedMount", SECRET)),
        # The claim of another pod, of a pod that has a node, or from before the pod.
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-1", "ProvisioningFailed", NO_CLASS)),
        (STARTING, event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", NO_CLASS)),
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", NO_CLASS, hours=2)),
        (STARTING, event("Pod", "assistant-0", "Evicted", EMPTY_DIR, "uid-before", minutes=11)),
        (
            STARTING,
            event("Pod", "assistant-0", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ),
    ],
)
def test_an_event_that_is_no_longer_true_is_not_used(body: dict[str, Any], told: WarningEvent) -> None:
    assert classified(body, told) is None


TIMED_OUT = 'MountVolume.SetUp failed for volume "config" : failed to sync configmap cache: timed out'
ROOT_CA = 'MountVolume.SetUp failed for volume "token" : configmap "kube-root-ca.crt" not found'
PROVISIONING = 'failed to provision volume with StorageClass "fast": no selected node'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", PROVISIONING, "c")),
        (STARTING, event("Pod", "assistant-0", "FailedMount", TIMED_OUT)),
        (STARTING, event("Pod", "assistant-0", "FailedMount", ROOT_CA)),
        (STARTING, event("Pod", "assistant-0", "FailedAttachVolume", MULTI)),
        (STARTING, event("Pod", "assistant-0", "NetworkNotReady", "network is not ready")),
        (STARTING, event("Pod", "assistant-0", "FailedPrepareDynamicResources", NO_DRIVER)),
    ],
)
def test_what_a_normal_start_gets_over_is_in_trouble_only_if_it_lasts(body: dict[str, Any], told: WarningEvent) -> None:
    assert classified(body, repeated_for(29, told)) is None
    assert classified(body, repeated_for(30, told)) is not None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (UNSCHEDULED, event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", NO_CLASS, "c")),
        (STARTING, event("Pod", "assistant-0", "FailedMount", SECRET)),
        (STARTING, event("Pod", "assistant-0", "FailedMount", NO_KEY)),
        (STARTING, event("Pod", "assistant-0", "FailedCreatePodSandBox", SANDBOX)),
    ],
)
def test_a_missing_object_is_said_immediately(body: dict[str, Any], told: WarningEvent) -> None:
    assert classified(body, repeated_for(0, told)) is not None


def test_an_obstacle_lasts_from_its_first_event_on_whatever_the_later_ones_say() -> None:
    first = repeated_for(40, event("Pod", "assistant-0", "FailedMount", TIMED_OUT))
    last = repeated_for(1, event("Pod", "assistant-0", "FailedMount", f"{TIMED_OUT} again"))
    trouble = classified(STARTING, last, replace(first, last_seen=first.first_seen))
    assert trouble is not None
    assert "again" in trouble.message


def test_an_obstacle_of_a_claim_lasts_at_most_as_long_as_its_pod_exists() -> None:
    told = event("PersistentVolumeClaim", "models-assistant-0", "ProvisioningFailed", PROVISIONING, "c")
    young = {**UNSCHEDULED, "metadata": {**UNSCHEDULED["metadata"], "creationTimestamp": ago(seconds=10)}}
    assert classified(young, repeated_for(3600, told)) is None


def test_volumes_that_are_mounted_are_not_in_trouble() -> None:
    """The image is being pulled, which takes minutes, and the Event about the first attempt still exists."""
    told = repeated_for(60, event("Pod", "assistant-0", "FailedMount", TIMED_OUT))
    mounted = {"type": "PodReadyToStartContainers", "status": "True"}
    body = pod(container(waiting("PodInitializing")), conditions=[SCHEDULED, mounted])
    assert classified(body, told) is None


def test_a_pod_that_is_being_deleted_is_only_in_trouble_if_it_never_ends() -> None:
    def deleted(**time: float) -> dict[str, Any]:
        body = pod(container(ended("Error", 137), restartCount=5))
        return {**body, "metadata": {**body["metadata"], "deletionTimestamp": ago(**time)}}

    assert classified(deleted(seconds=-30)) is None
    assert classified(deleted(seconds=119)) is None
    trouble = classified(deleted(seconds=120))
    assert trouble is not None
    assert trouble.message.startswith("assistant-0 should have ended at 2026-01-02T11:58:00Z")


def test_a_refusal_from_before_the_pod_was_last_seen_is_over() -> None:
    told = refused(
        'pods "assistant-0" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    )
    for seconds, is_over in ((20, False), (1, False), (-1, True)):
        existed = NOW - timedelta(seconds=seconds)
        assert (absent_pod_trouble("assistant-0", [told], NOW, existed) is None) is is_over


def refused(error: str, what: str = "Pod assistant-0") -> WarningEvent:
    """Return the Event of the StatefulSet controller about a pod or a claim that it cannot create."""
    words = f"create {what} in StatefulSet assistant failed error: {error}"
    return event("StatefulSet", "assistant", "FailedCreate", words, "uid-set")


FORBIDDEN = 'pods "assistant-0" is forbidden: '
CLAIM = "Claim models-assistant-0 for Pod assistant-0"


@pytest.mark.parametrize(
    ("told", "reason", "advice"),
    [
        (refused(FORBIDDEN + "failed quota: compute: must specify limits.cpu for: metering,ollama; limits.memory for: ollama"), "QuotaExceeded", "Set them in spec.ollama.resources and spec.metering.resources"),
        (refused(FORBIDDEN + "exceeded quota: compute, requested: pods=1, used: pods=1, limited: pods=1"), "QuotaExceeded", "Raise the ResourceQuota"),
        (refused('persistentvolumeclaims "models-assistant-0" is forbidden: exceeded quota: q, requested: requests.storage=50Gi, used: requests.storage=0, limited: requests.storage=1Gi', CLAIM), "QuotaExceeded", "Raise the ResourceQuota"),
        (refused(FORBIDDEN + "minimum cpu usage per Container is 200m, but request is 100m"), "LimitRange", "or the LimitRange of the namespace"),
        (refused('Pod "assistant-0" is invalid: spec.initContainers[0].resources.requests: Invalid value: "1Gi": must be less than or equal to memory limit of 512Mi'), "Invalid", "a LimitRange of the namespace does"),
        (refused(FORBIDDEN + "no PriorityClass with name high was found"), "ReferenceNotFound", "correct spec.pod.priorityClassName"),
        (refused(FORBIDDEN + 'pod rejected: RuntimeClass "nvidia" not found'), "ReferenceNotFound", "correct spec.gpu.runtimeClassName"),
        (refused(FORBIDDEN + 'error looking up service account ns/assistant: serviceaccount "assistant" not found'), "ReferenceNotFound", "The ServiceAccount is missing"),
        (refused(FORBIDDEN + "ValidatingAdmissionPolicy 'uids' with binding 'uids' denied request: wrong UID"), "AdmissionDenied", "change the ValidatingAdmissionPolicy"),
        (refused(FORBIDDEN + 'violates PodSecurity "restricted:latest": seccompProfile'), "AdmissionDenied", "pod-security.kubernetes.io/enforce"),
        (refused(FORBIDDEN + "unable to validate against any security context constraint: [...]"), "AdmissionDenied", "platform.openshift"),
        (refused('admission webhook "gate.example.com" denied the request: no GPUs on Fridays'), "AdmissionDenied", "ask the owner of the webhook"),
        (refused('Internal error occurred: failed calling webhook "gate.example.com": failed to call webhook: Post "https://x": context deadline exceeded'), "WebhookFailed", "The webhook itself does not work"),
        (refused("the server is on the moon"), "PodNotRunning", "See the events of its StatefulSet"),
        (event("Pod", "assistant-0", "Evicted", EMPTY_DIR, "uid-before"), "Evicted", "Raise spec.storage.sizeLimit"),
    ],
)  # fmt: skip
def test_why_a_pod_does_not_exist(told: WarningEvent, reason: str, advice: str) -> None:
    trouble = absent_pod_trouble("assistant-0", [told], NOW)
    assert trouble is not None
    assert trouble.reason == reason
    assert advice in trouble.message
    assert told.message.partition("failed error: ")[2] in trouble.message
    assert absent_pod_trouble("assistant-1", [told], NOW) is None
    assert absent_pod_trouble("assistant-00", [told], NOW) is None
