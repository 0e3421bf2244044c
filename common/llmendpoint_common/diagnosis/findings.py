"""A finding: one thing that is wrong with a machine or an endpoint, its cause, and the command that fixes it.

The command line, the dashboard and the API of the dashboard show findings. Their causes are names that never change, so
that scripts and runbooks can rely on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Severities of findings.

    An error keeps requests from being answered, or measurements from being taken. A warning makes them slower or less
    reliable. Information needs no action.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Cause(StrEnum):
    """Causes that the rules determine themselves.

    A finding that repeats a condition of an endpoint has the reason of the condition as its cause, unless the message
    shows a more exact one of these. Causes that are also reasons of conditions have the same name.
    """

    # Ollama on a machine
    OLLAMA_NOT_RUNNING = "OllamaNotRunning"
    OLLAMA_NOT_ANSWERING = "OllamaNotAnswering"
    OLLAMA_VERSION_UNSUPPORTED = "OllamaVersionUnsupported"
    OLLAMA_HUNG = "OllamaHung"
    UPSTREAM_LOOP = "UpstreamLoop"
    MODEL_MISSING = "ModelMissing"
    PARTLY_ON_CPU = "PartlyOnCPU"
    CONTEXT_CUT = "ContextCut"
    DISK_NEARLY_FULL = "DiskNearlyFull"
    DISK_FULL = "DiskFull"
    # Processes and ports of a machine
    PORT_TAKEN = "PortTaken"
    PROCESS_CRASHED = "ProcessCrashed"
    SIDECAR_NOT_RUNNING = "SidecarNotRunning"
    SIDECAR_NOT_ANSWERING = "SidecarNotAnswering"
    SIDECAR_NOT_READY = "SidecarNotReady"
    UNIT_OUTDATED = "UnitOutdated"
    FILE_LIMIT_LOW = "FileLimitLow"
    CLOCK_SKEW = "ClockSkew"
    CLOCK_JUMPED = "ClockJumped"
    # Prometheus
    PROMETHEUS_NOT_RUNNING = "PrometheusNotRunning"
    PROMETHEUS_WITHOUT_TARGETS = "PrometheusWithoutTargets"
    SIDECAR_NOT_SCRAPED = "SidecarNotScraped"
    TARGET_DOWN = "TargetDown"
    # A cluster
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    DEFINITIONS_ABSENT = "DefinitionsAbsent"
    DEFINITIONS_OUTDATED = "DefinitionsOutdated"
    OPERATOR_NOT_RUNNING = "OperatorNotRunning"
    ENDPOINT_NOT_FOUND = "EndpointNotFound"
    # An endpoint: more exact than the reasons Unschedulable and VolumeNotReady
    NO_GPU_FREE = "NoGPUFree"
    GPU_PRODUCT_NOT_FOUND = "GPUProductNotFound"
    POD_PENDING = "PodPending"
    CLAIM_PENDING = "ClaimPending"
    MONITOR_NOT_SELECTED = "MonitorNotSelected"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `cause` is a `Cause`, or the reason of a condition. `subject` is what the finding is about, such as `Ollama`,
    `llama3.2:3b` or `LLMEndpoint team-a/assistant`. `sentence` says what is wrong, and is read alone. `advice` says
    what to do, and is empty if the sentence does. `command` is the shell command that fixes it or, if no single
    command can, the one that shows what has to be changed.
    """

    severity: Severity
    cause: str
    subject: str
    sentence: str
    advice: str = ""
    command: str = ""

    @property
    def key(self) -> str:
        """The key of the finding: unique in one report, and the same in the next one while the fault lasts."""
        return f"{self.cause}/{self.subject}"


def is_wrong(findings: Iterable[Finding]) -> bool:
    """Return whether a finding needs action: it is an error or a warning."""
    return any(finding.severity is not Severity.INFO for finding in findings)
