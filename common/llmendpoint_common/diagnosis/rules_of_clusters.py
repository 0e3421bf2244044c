"""Rules about a cluster and its endpoints.

The operator writes the problems of an endpoint into its conditions. A finding repeats the message of a
condition word by word, and adds the cause, if the message has a more exact one than the reason, and a command.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from llmendpoint_common.contracts.cluster import (
    ENDPOINT_LABEL,
    LLMENDPOINT,
    OPERATOR_LABEL,
    EndpointCondition,
    EndpointReason,
    FaultReason,
    PodReason,
)
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_common.diagnosis import sentences
from llmendpoint_common.diagnosis.facts import ClusterFacts, ConditionFacts, EndpointFacts, OperatorFacts
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity

_INSTALL = "helm install llmendpoint charts/llmendpoint --namespace llmendpoint-system --create-namespace"
_UPGRADE_DEFINITIONS = "kubectl apply --server-side --force-conflicts -f manifests/crds/"

#: Conditions in the order in which they explain each other: the first finding of a cause is kept.
_ORDER = (
    EndpointCondition.STALLED,
    EndpointCondition.READY,
    EndpointCondition.DEGRADED,
    EndpointCondition.MODELS_AVAILABLE,
    EndpointCondition.MODELS_LOADED,
    EndpointCondition.GPU_OFFLOADED,
    EndpointCondition.MONITORING_READY,
    EndpointCondition.RECONCILING,
)
#: The status of a condition that reports a fault. Reconciling does so only with the reasons below.
_FAULTY = {
    EndpointCondition.STALLED: "True",
    EndpointCondition.READY: "False",
    EndpointCondition.DEGRADED: "True",
    EndpointCondition.MODELS_AVAILABLE: "False",
    EndpointCondition.MODELS_LOADED: "False",
    EndpointCondition.GPU_OFFLOADED: "False",
    EndpointCondition.MONITORING_READY: "False",
}
_ERRORS = frozenset({EndpointCondition.STALLED, EndpointCondition.READY})
#: Reasons that are faults although the status is Unknown, and the reason of Reconciling if no operator reconciles.
_UNKNOWN_FAULTS = frozenset({EndpointReason.SIDECAR_UNREACHABLE, EndpointReason.NOT_WATCHED})
_RECONCILING_FAULTS = frozenset({EndpointReason.PENDING})
#: Reasons of an endpoint that is on its way, or that only say that another condition has the cause.
_PROGRESS = frozenset(
    {
        EndpointReason.STARTING,
        EndpointReason.MODEL_PENDING,
        EndpointReason.MODEL_PULLING,
        EndpointReason.MODEL_LOADING,
        EndpointReason.PULLING,
        EndpointReason.LOADING,
        EndpointReason.REPLICAS_UNAVAILABLE,
        EndpointReason.NOT_APPLIED,
        EndpointReason.PAUSED,
    }
)
#: Words in messages of the operator, by the cause that they show. The first that is found decides.
_EXACT = (
    (sentences.NO_GPU_IS_FREE, Cause.NO_GPU_FREE),
    (sentences.NOT_ENOUGH_GPUS_ARE_FREE, Cause.NO_GPU_FREE),
    (sentences.NO_GPU_FOR_THE_CLAIMS, Cause.NO_GPU_FREE),
    (sentences.NO_GPU_OF_THE_PRODUCT, Cause.GPU_PRODUCT_NOT_FOUND),
    (sentences.WAITS_FOR_CLAIM, Cause.CLAIM_PENDING),
    (sentences.CLAIM_IS_NOT_BOUND, Cause.CLAIM_PENDING),
    (sentences.NO_VOLUME_FOR_ITS_CLAIM, Cause.CLAIM_PENDING),
    (sentences.NOT_ENOUGH_STORAGE, Cause.CLAIM_PENDING),
    (sentences.CLAIM_DOES_NOT_EXIST, Cause.CLAIM_PENDING),
    (sentences.RESOURCE_CLAIM_NOT_CREATED, Cause.CLAIM_PENDING),
    (sentences.RESOURCE_CLAIMS_MUST_EXIST, Cause.CLAIM_PENDING),
)
_PRODUCT_LABEL = re.compile(rf"{sentences.NO_GPU_OF_THE_PRODUCT} .*? \(label (?P<label>[^)]+)\)")
_CLAIM = re.compile(r"PersistentVolumeClaim (?P<name>[a-z0-9.-]+[a-z0-9])")
_SELECTED_LABELS = re.compile(r" selects \w+Monitors with (?P<labels>\S+=\S*(?:, \S+=\S*)*) in all namespaces")
_HUNG_POD = re.compile(r"^(?P<pod>[a-z0-9.-]+): ")

_DESCRIBE_PODS = f"kubectl -n {{namespace}} describe pods -l {ENDPOINT_LABEL}={{name}}"
_EDIT = "kubectl -n {namespace} edit llm {name}"
_GPU_IN_LOGS = f"kubectl -n {{namespace}} logs -l {ENDPOINT_LABEL}={{name}} -c ollama --tail=-1 --prefix | grep -i gpu"
_WEBHOOKS = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
_COMMANDS: dict[str, str] = {
    Cause.NO_GPU_FREE: "kubectl describe nodes",
    Cause.CLAIM_PENDING: "kubectl -n {namespace} describe pvc",
    Cause.POD_PENDING: _DESCRIBE_PODS,
    PodReason.IMAGE_PULL_FAILED: _DESCRIBE_PODS,
    PodReason.CONTAINER_NOT_STARTED: _DESCRIBE_PODS,
    PodReason.VOLUME_NOT_READY: _DESCRIBE_PODS,
    PodReason.EVICTED: _DESCRIBE_PODS,
    PodReason.POD_NOT_RUNNING: _DESCRIBE_PODS,
    PodReason.CRASH_LOOP: (
        f"kubectl -n {{namespace}} logs -l {ENDPOINT_LABEL}={{name}} --all-containers --previous --prefix"
    ),
    PodReason.OOM_KILLED: _EDIT,
    FaultReason.QUOTA_EXCEEDED: "kubectl -n {namespace} describe resourcequota",
    FaultReason.LIMIT_RANGE: "kubectl -n {namespace} describe limitrange",
    FaultReason.WEBHOOK_FAILED: _WEBHOOKS,
    FaultReason.ADMISSION_DENIED: _EDIT,
    FaultReason.INVALID: _EDIT,
    FaultReason.REFERENCE_NOT_FOUND: _EDIT,
    EndpointReason.INVALID_SPEC: _EDIT,
    EndpointReason.POLICY_VIOLATION: _EDIT,
    EndpointReason.PARTLY_ON_CPU: _EDIT,
    EndpointReason.DIGESTS_DIFFER: _EDIT,
    EndpointReason.SIDECAR_UNREACHABLE: "kubectl -n {namespace} get networkpolicies",
    EndpointReason.PROMETHEUS_UNAVAILABLE: "kubectl describe prometheus --all-namespaces",
    EndpointReason.AUTOSCALING_UNAVAILABLE: "kubectl -n {namespace} describe hpa",
    Cause.MONITOR_NOT_SELECTED: "kubectl get prometheus --all-namespaces -o yaml",
    **dict.fromkeys(ModelReason, _EDIT),
}


def cluster_faults(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the findings. If the operator does not run, conditions are outdated, and are not reported."""
    if facts.error:
        yield Finding(
            Severity.ERROR,
            Cause.CLUSTER_UNREACHABLE,
            "cluster",
            f"The API server {facts.url or 'of the cluster'} cannot be used: {facts.error}.",
            "Check the kubeconfig, its context and the network.",
            "kubectl cluster-info",
        )
        return
    yield from _definitions(facts)
    if LLMENDPOINT in facts.absent:
        return
    if facts.operator is not None and not facts.operator.is_serving:
        yield _operator(facts.operator, facts.now)
        return
    if facts.named and not facts.endpoints:
        yield Finding(
            Severity.ERROR,
            Cause.ENDPOINT_NOT_FOUND,
            f"{LLMENDPOINT} {facts.named}",
            f"LLMEndpoint {facts.named} does not exist.",
            "Check its namespace and its name.",
            "kubectl get llm --all-namespaces",
        )
    for endpoint in facts.endpoints:
        yield from endpoint_faults(endpoint)


def _definitions(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.absent:
        kinds = ", ".join(facts.absent)
        yield Finding(
            Severity.ERROR,
            Cause.DEFINITIONS_ABSENT,
            "definitions",
            f"The cluster does not have the kind {kinds}: the CustomResourceDefinitions of llmendpoint are not "
            "installed.",
            "Install llmendpoint."
            if LLMENDPOINT in facts.absent
            else "Install the definitions of this version of llmendpoint.",
            _INSTALL if LLMENDPOINT in facts.absent else _UPGRADE_DEFINITIONS,
        )
    elif facts.outdated:
        yield Finding(
            Severity.WARNING,
            Cause.DEFINITIONS_OUTDATED,
            "definitions",
            f"The CustomResourceDefinitions in the cluster are older than this version: they lack {facts.outdated[0]}"
            f"{f' and {len(facts.outdated) - 1} more fields' if len(facts.outdated) > 1 else ''}. The API server "
            "drops fields that they lack.",
            "Upgrade the definitions, and then the operator.",
            _UPGRADE_DEFINITIONS,
        )


def _operator(operator: OperatorFacts, now: float) -> Finding:
    seen = "none has ever run here"
    if operator.last_seen is not None:
        seen = f"the last sign of one is {max(0, now - operator.last_seen):.0f} s old"
    name = f"{operator.namespace}/{operator.deployment}"
    if not operator.deployment:
        why, advice, command = "", "Install the operator.", _INSTALL
    elif not operator.replicas:
        why, advice = f" Its Deployment {name} has no replicas.", "Scale it up."
        command = f"kubectl -n {operator.namespace} scale deployment {operator.deployment} --replicas=1"
    else:
        why = f" Its Deployment {name} has no pod that works{f': {operator.problem}' if operator.problem else ''}."
        advice = "See the events and the logs of its pods."
        command = f"kubectl -n {operator.namespace} describe pods -l {OPERATOR_LABEL}=true"
    sentence = (
        f"No operator of llmendpoint runs: {seen}.{why} Endpoints keep serving, but no change is applied, and their "
        "conditions are outdated."
    )
    return Finding(Severity.ERROR, Cause.OPERATOR_NOT_RUNNING, "operator", sentence, advice, command)


def endpoint_faults(endpoint: EndpointFacts) -> list[Finding]:
    """Return the findings of an endpoint's conditions, each cause once. Progress is reported only without a fault."""
    by_type = {condition.type: condition for condition in endpoint.conditions}
    ordered = [by_type[kind] for kind in _ORDER if kind in by_type]
    faulty = [condition for condition in ordered if _is_fault(condition)]
    found: dict[str, Finding] = {}
    for condition in faulty:
        if condition.reason not in _PROGRESS:
            finding = _finding(endpoint, condition)
            found.setdefault(finding.cause, finding)
    if not found and faulty:
        return [_progress(endpoint, faulty[0])]
    return list(found.values())


def _is_fault(condition: ConditionFacts) -> bool:
    if condition.type == EndpointCondition.RECONCILING:
        return condition.status == "True" and condition.reason in _RECONCILING_FAULTS
    if condition.status == "Unknown":
        return condition.reason in _UNKNOWN_FAULTS
    return _FAULTY.get(EndpointCondition(condition.type)) == condition.status


def _subject(endpoint: EndpointFacts) -> str:
    return f"{LLMENDPOINT} {endpoint.namespace}/{endpoint.name}"


def _progress(endpoint: EndpointFacts, condition: ConditionFacts) -> Finding:
    command = f"kubectl -n {endpoint.namespace} describe llm {endpoint.name}"
    return Finding(Severity.INFO, condition.reason, _subject(endpoint), condition.message, "", command)


def _finding(endpoint: EndpointFacts, condition: ConditionFacts) -> Finding:
    cause = exact_cause(condition.reason, condition.message)
    severity = Severity.ERROR if condition.type in _ERRORS else Severity.WARNING
    command = _command(cause, endpoint, condition.message)
    return Finding(severity, cause, _subject(endpoint), condition.message, "", command)


def exact_cause(reason: str, message: str) -> str:
    """Return the cause that a condition reports: its reason, or a more exact one that its message shows."""
    if reason == EndpointReason.NOT_SELECTED:
        return Cause.MONITOR_NOT_SELECTED
    if reason not in (PodReason.UNSCHEDULABLE, PodReason.VOLUME_NOT_READY):
        return reason
    exact = next((cause for words, cause in _EXACT if words in message), None)
    if exact is None:
        return Cause.POD_PENDING if reason == PodReason.UNSCHEDULABLE else reason
    return exact


def _command(cause: str, endpoint: EndpointFacts, message: str) -> str:
    if cause == Cause.GPU_PRODUCT_NOT_FOUND and (found := _PRODUCT_LABEL.search(message)):
        return f"kubectl get nodes -L {found['label']}"
    if cause == Cause.CLAIM_PENDING and "ResourceClaim" in message:
        return f"kubectl -n {endpoint.namespace} get resourceclaims,resourceclaimtemplates"
    if cause == Cause.CLAIM_PENDING and (found := _CLAIM.search(message)):
        return f"kubectl -n {endpoint.namespace} describe pvc {found['name']}"
    if cause == Cause.MONITOR_NOT_SELECTED and (found := _SELECTED_LABELS.search(message)):
        return _label(endpoint, found["labels"])
    if cause == Cause.OLLAMA_HUNG and (found := _HUNG_POD.match(message)):
        return f"kubectl -n {endpoint.namespace} delete pod {found['pod']}"
    template = _COMMANDS.get(cause, "kubectl -n {namespace} describe llm {name}")
    if cause == Cause.PARTLY_ON_CPU and message.startswith(sentences.NOTHING_ON_GPU):
        template = _GPU_IN_LOGS
    return template.format(namespace=endpoint.namespace, name=endpoint.name)


def _label(endpoint: EndpointFacts, labels: str) -> str:
    """Return the command that sets the labels which a Prometheus selects on the monitor of an endpoint."""
    wanted = dict(label.split("=", 1) for label in labels.split(", "))
    patch = shlex.quote(json.dumps({"spec": {"monitoring": {"labels": wanted}}}))
    return f"kubectl -n {endpoint.namespace} patch llm {endpoint.name} --type=merge -p {patch}"
