"""The condition Ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.ready import ready
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.pods.trouble import Trouble
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import (
    BUDGET_CONFLICT,
    CONFLICT,
    FORBIDDEN,
    HUNG,
    MISSING,
    MONITOR_CONFLICT,
    NO_MONITORS,
    NO_PODS,
    PULLING,
    QUOTA,
    READY,
    SILENT,
    UNREACHABLE,
    UNWATCHED,
    model,
    observed,
    outcome,
    view,
)

NOT_GROWN = Fault(FaultReason.NOT_EXPANDABLE, "PersistentVolumeClaim/models-assistant-0", "cannot grow")
NO_BUDGET = Fault(FaultReason.FORBIDDEN, "PodDisruptionBudget/assistant", "no rights")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed(view(READY, ready=True)), (True, "ModelsAnswer")),
        (NO_PODS, (False, "Starting")),
        (observed(SILENT), (False, "Starting")),
        (observed(view(PULLING)), (False, "ModelPulling")),
        (observed(view(model(ModelPhase.PENDING))), (False, "ModelPending")),
        (observed(view(model(ModelPhase.LOADING))), (False, "ModelLoading")),
        (observed(view(MISSING)), (False, "ModelNotFound")),
        (observed(view(trouble="no GPU")), (False, "PodNotRunning")),
        (observed(view(PULLING), view(trouble="no GPU")), (False, "PodNotRunning")),
        (observed(view(PULLING), view(MISSING)), (False, "ModelNotFound")),
        (observed(HUNG), (False, "OllamaHung")),
        (observed(HUNG, view(READY, ready=True)), (True, "ModelsAnswer")),
        (Observation(1, 0, True, (), (CONFLICT,)), (False, "NameConflict")),
        (observed(view(PULLING), refused=(CONFLICT,)), (False, "NameConflict")),
        # Replicas answer, but the URL in the status may lead to somebody else's Service.
        (observed(view(READY, ready=True), refused=(CONFLICT,)), (False, "NameConflict")),
        (observed(view(READY, ready=True), refused=(MONITOR_CONFLICT,)), (True, "ModelsAnswer")),
        # No pod and no client uses somebody else's PodDisruptionBudget.
        (observed(view(READY, ready=True), refused=(BUDGET_CONFLICT,)), (True, "ModelsAnswer")),
        # Another refused child is the reason only if no pod reports a problem or an unfinished model.
        (Observation(0, 0, False, (), (FORBIDDEN,)), (False, "Forbidden")),
        (observed(view(PULLING), refused=(FORBIDDEN,)), (False, "ModelPulling")),
        (Observation(0, 0, False, (), (NO_MONITORS,)), (False, "Starting")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(ready(endpoint_spec(), seen)) == expected


def test_an_endpoint_without_replicas_is_neither_ready_nor_unready() -> None:
    """kstatus would take Ready=False for an endpoint that is still in progress. Reconciling says ScaledToZero."""
    assert ready(endpoint_spec(replicas=0), NO_PODS) is None
    assert ready(endpoint_spec(replicas=0), observed(refused=(CONFLICT,))) is None


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        # A container that does not run explains a model that fails on the same pod.
        (observed(view(MISSING, trouble="OOMKilled")), "PodNotRunning"),
        # A failed model needs a change of the spec, so it comes before the troubles of other pods.
        (observed(view(trouble="no GPU"), view(MISSING)), "ModelNotFound"),
        (replace(NO_PODS, absent=(Trouble("QuotaExceeded", "no quota"),)), "QuotaExceeded"),
        (observed(replace(UNREACHABLE, ready=False)), "SidecarUnreachable"),
        (replace(NO_PODS, invalid="spec.replicas: two"), "InvalidSpec"),
    ],
)
def test_the_most_telling_cause_is_the_reason(seen: Observation, reason: str) -> None:
    assert outcome(ready(endpoint_spec(), seen)) == (False, reason)


def test_an_endpoint_whose_autoscaler_has_stopped_all_pods_is_neither_ready_nor_unready() -> None:
    spec = endpoint_spec(autoscaling={"maxReplicas": 5})
    assert ready(spec, replace(NO_PODS, scaled_to=0)) is None
    assert outcome(ready(spec, replace(NO_PODS, scaled_to=1))) == (False, "Starting")


def test_an_endpoint_without_its_client_service_is_not_ready() -> None:
    seen = replace(observed(view(READY, ready=True)), reachable=False)
    assert outcome(ready(endpoint_spec(), seen)) == (False, "Starting")
    assert outcome(ready(endpoint_spec(), replace(seen, refused=(QUOTA,)))) == (False, "QuotaExceeded")


@pytest.mark.parametrize("fault", [NOT_GROWN, NO_BUDGET])
def test_a_refused_child_that_no_pod_and_no_client_uses_is_not_the_reason(fault: Fault) -> None:
    """A pod restarts while its claim may not grow: it has nothing to do with the claim."""
    assert outcome(ready(endpoint_spec(), replace(NO_PODS, refused=(fault,)))) == (False, "Starting")
    assert outcome(ready(endpoint_spec(), replace(NO_PODS, refused=(fault, FORBIDDEN)))) == (False, "Forbidden")


def test_a_paused_endpoint_does_not_promise_what_the_operator_will_not_write() -> None:
    served = replace(observed(view(READY, ready=True)), reachable=False)
    seen = replace(served, paused=True, withheld=("Service/assistant",))
    assert outcome(ready(endpoint_spec(), seen)) == (False, "Paused")
    assert message(endpoint_spec(), seen) == (
        "The Service for clients does not exist. The operator does not write Service/assistant, because the annotation "
        "llmendpoint.dev/paused of this endpoint is true. Remove the annotation to resume."
    )
    seen = replace(NO_PODS, paused=True, withheld=("StatefulSet/assistant",))
    assert message(endpoint_spec(), seen).startswith("No replica is ready, and none says why. The operator does not")


def test_messages_name_what_is_in_the_way() -> None:
    spec = endpoint_spec()
    assert message(spec, observed(view(MISSING))) == "no such model"
    assert message(spec, observed(view(PULLING))) == "tiny:latest: pulled 4 MB of 10 MB"
    assert message(spec, observed(view(trouble="no GPU"))) == "no GPU"
    assert message(spec, observed(SILENT, refused=(FORBIDDEN, CONFLICT))) == CONFLICT.message
    assert message(endpoint_spec(replicas=3), observed(view(READY, ready=True))).startswith("1 of 3 replicas")


def message(spec: LLMEndpointSpec, seen: Observation) -> str:
    condition = ready(spec, seen)
    assert condition is not None
    return condition.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("StatefulSet", (None, "NotWatched")),
        ("Pod", (None, "NotWatched")),
        ("Service", (None, "NotWatched")),
        ("ConfigMap", (True, "ModelsAnswer")),
        ("ServiceMonitor", (True, "ModelsAnswer")),
    ],
)
def test_nobody_knows_whether_replicas_answer_that_cannot_be_seen(kind: str, expected: tuple[bool | None, str]) -> None:
    seen = replace(observed(view(READY, ready=True)), unwatched=(UNWATCHED[kind],))
    assert outcome(ready(endpoint_spec(), seen)) == expected


def test_the_message_names_what_cannot_be_watched_and_quotes_the_api_server() -> None:
    seen = replace(NO_PODS, unwatched=(UNWATCHED["ConfigMap"], UNWATCHED["StatefulSet"], UNWATCHED["Pod"]))
    condition = ready(endpoint_spec(), seen)
    assert condition is not None
    assert condition.message == (
        "It is not known whether a replica answers. The operator cannot watch StatefulSet, Pod in the cluster: "
        "StatefulSet is forbidden. Give its ServiceAccount the permissions of the chart's ClusterRole."
    )
