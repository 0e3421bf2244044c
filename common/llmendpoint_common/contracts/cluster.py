"""Names that the operator writes into a cluster: API group, labels, condition types and condition reasons."""

from __future__ import annotations

from enum import StrEnum

GROUP = "llmendpoint.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
LLMENDPOINT = "LLMEndpoint"
LOADTEST = "LoadTest"
LOADTEST_SCHEDULE = "LoadTestSchedule"
FIELD_MANAGER = "llmendpoint-operator"

ENDPOINT_LABEL = f"{GROUP}/endpoint"
LOADTEST_LABEL = f"{GROUP}/loadtest"
SCHEDULE_LABEL = f"{GROUP}/schedule"
SCRAPE_LABEL = f"{GROUP}/scrape"
#: Label of the pods of the operator, for NetworkPolicies.
OPERATOR_LABEL = f"{GROUP}/operator"
#: Label of the pods of the dashboard, for NetworkPolicies.
DASHBOARD_LABEL = f"{GROUP}/dashboard"
QUESTIONS_LABEL = f"{GROUP}/questions"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
#: Labels that the operator sets on every object, besides those of its own domain.
OWN_LABELS = (NAME_LABEL, INSTANCE_LABEL, COMPONENT_LABEL, MANAGED_BY_LABEL)
#: Says which labels nobody else can set.
RESERVED_LABELS = f"the operator sets the labels {', '.join(OWN_LABELS)} and all that begin with {GROUP}/"
#: Labels that the StatefulSet controller writes on every pod, over those of the template.
STATEFULSET_LABELS = ("apps.kubernetes.io/pod-index", "controller-revision-hash", "statefulset.kubernetes.io/pod-name")
STATEFULSET_LABELS_ARE_RESERVED = f"the StatefulSet controller sets the labels {', '.join(STATEFULSET_LABELS)}"
MANAGED_BY = "llmendpoint"

#: Annotation of an LLMEndpoint. While its value is `true`, the operator writes the status, and nothing else.
PAUSED_ANNOTATION = f"{GROUP}/paused"

#: Name of the operators' Leases, and their annotations: who wants to serve which scope, and whether it does.
LEASE_NAME = "llmendpoint-operator"
INSTALLATION_ANNOTATION = f"{GROUP}/installation"
SCOPE_ANNOTATION = f"{GROUP}/scope"
SERVING_ANNOTATION = f"{GROUP}/serving"


def pods_service(endpoint: str) -> str:
    """Return the name of the headless Service of an LLMEndpoint, whose addresses are those of its pods."""
    return f"{endpoint}-pods"


class EndpointCondition(StrEnum):
    """Condition types of an LLMEndpoint."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    MODELS_AVAILABLE = "ModelsAvailable"
    MODELS_LOADED = "ModelsLoaded"
    GPU_OFFLOADED = "GPUOffloaded"
    MONITORING_READY = "MonitoringReady"
    DEGRADED = "Degraded"
    STALLED = "Stalled"


class LoadTestCondition(StrEnum):
    """Condition types of a LoadTest."""

    COMPLETE = "Complete"
    PASSED = "Passed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ScheduleCondition(StrEnum):
    """Condition types of a LoadTestSchedule."""

    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class EndpointReason(StrEnum):
    """Condition reasons of an LLMEndpoint. Reasons for a single model are `ModelReason` in the sidecar's contract."""

    # Ready
    MODELS_ANSWER = "ModelsAnswer"
    STARTING = "Starting"
    MODEL_PENDING = "ModelPending"
    MODEL_PULLING = "ModelPulling"
    MODEL_LOADING = "ModelLoading"
    OLLAMA_HUNG = "OllamaHung"
    INVALID_SPEC = "InvalidSpec"
    # Ready, Reconciling, Degraded and MonitoringReady: the operator may not watch a kind of child
    NOT_WATCHED = "NotWatched"
    # Reconciling, ModelsAvailable and ModelsLoaded; an endpoint without replicas has no condition Ready
    SCALED_TO_ZERO = "ScaledToZero"
    # Reconciling
    # The CRD sets this one on a new object.
    PENDING = "Pending"
    ROLLING_OUT = "RollingOut"
    CHANGING_MODELS = "ChangingModels"
    NOT_APPLIED = "NotApplied"
    RESIZING = "Resizing"
    PAUSED = "Paused"
    SETTLED = "Settled"
    STALLED = "Stalled"
    # ModelsAvailable and ModelsLoaded
    SIDECAR_UNREACHABLE = "SidecarUnreachable"
    # ModelsAvailable
    ALL_PRESENT = "AllPresent"
    PULLING = "Pulling"
    # ModelsLoaded
    ALL_LOADED = "AllLoaded"
    NONE_PRELOADED = "NonePreloaded"
    LOADING = "Loading"
    # GPUOffloaded
    WHOLLY_ON_GPU = "WhollyOnGPU"
    PARTLY_ON_CPU = "PartlyOnCPU"
    NOTHING_LOADED = "NothingLoaded"
    # MonitoringReady
    SERVICE_MONITOR = "ServiceMonitor"
    SERVICE_MONITOR_UNKNOWN = "ServiceMonitorUnknown"
    POD_MONITOR = "PodMonitor"
    POD_MONITOR_UNKNOWN = "PodMonitorUnknown"
    ANNOTATIONS = "Annotations"
    NOT_SELECTED = "NotSelected"
    PROMETHEUS_UNAVAILABLE = "PrometheusUnavailable"
    PROMETHEUS_UNKNOWN = "PrometheusUnknown"
    # Degraded; for a refused child, the reason is a `FaultReason`, for a pod that does not run, a `PodReason`
    AS_WANTED = "AsWanted"
    REPLICAS_UNAVAILABLE = "ReplicasUnavailable"
    DIGESTS_DIFFER = "DigestsDiffer"
    AUTOSCALING_UNAVAILABLE = "AutoscalingUnavailable"
    # Stalled; other reasons are InvalidSpec, NameConflict, Invalid, Unschedulable and reasons of models
    NOT_STALLED = "NotStalled"
    POLICY_VIOLATION = "PolicyViolation"


class LoadTestReason(StrEnum):
    """Condition reasons of a LoadTest before it has a verdict. Reasons of verdicts are in the load run's contract.

    If a child is refused, the reason is a `FaultReason`, and if the pod does not run, a `PodReason`.
    """

    PENDING = "Pending"
    SUSPENDED = "Suspended"
    RUNNING = "Running"
    FINISHED = "Finished"
    NOT_WATCHED = "NotWatched"
    MODEL_NOT_SERVED = "ModelNotServed"
    MODEL_NOT_CHOSEN = "ModelNotChosen"
    NOT_STALLED = "NotStalled"
    POLICY_VIOLATION = "PolicyViolation"


class ScheduleReason(StrEnum):
    """Condition reasons of a LoadTestSchedule. If a load test is refused, the reason is a `FaultReason`."""

    SCHEDULED = "Scheduled"
    SUSPENDED = "Suspended"
    NOT_WATCHED = "NotWatched"
    INVALID_SPEC = "InvalidSpec"
    NOT_STALLED = "NotStalled"
    POLICY_VIOLATION = "PolicyViolation"


class FaultReason(StrEnum):
    """Reasons for which a child, or a pod of a child, was not written. They are reasons of conditions and Events."""

    NAME_CONFLICT = "NameConflict"
    FORBIDDEN = "Forbidden"
    QUOTA_EXCEEDED = "QuotaExceeded"
    LIMIT_RANGE = "LimitRange"
    ADMISSION_DENIED = "AdmissionDenied"
    WEBHOOK_FAILED = "WebhookFailed"
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    INVALID = "Invalid"
    NOT_EXPANDABLE = "StorageNotExpandable"
    CONFLICT = "Conflict"
    UNKNOWN_KIND = "UnknownKind"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    UNAVAILABLE = "APIServerUnavailable"


class PodReason(StrEnum):
    """Reasons for which a pod does not run. If it was refused by admission, the reason is a `FaultReason`."""

    UNSCHEDULABLE = "Unschedulable"
    VOLUME_NOT_READY = "VolumeNotReady"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    CRASH_LOOP = "CrashLoopBackOff"
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    POD_NOT_RUNNING = "PodNotRunning"
