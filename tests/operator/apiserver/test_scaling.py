"""The number of pods on a real API server: autoscaling on and off, `kubectl scale`, autoscalers and evictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.kubectl import Kubectl
from support.api_server.manifests import endpoint, pod
from support.waiting import wait_until

CRD = Path(__file__).parents[2] / "support/api_server/crds/keda.sh_scaledobjects.yaml"
SCALED = {"autoscaling": {"minReplicas": 1, "maxReplicas": 5}}
HPA = "HorizontalPodAutoscaler"


def make(api: Any, **spec: Any) -> dict[str, Any]:
    """Apply an endpoint, wait until this generation is applied, and return its StatefulSet."""
    generation = api.apply(endpoint("assistant", **spec))["metadata"]["generation"]

    def is_applied() -> bool:
        status = api.get(LLMENDPOINT, "assistant").get("status") or {}
        return bool(status.get("observedGeneration") == generation)

    wait_until(is_applied)
    return dict(api.get("StatefulSet", "assistant"))


def scale(api: Any, number: int) -> None:
    """Set the number of pods as an autoscaler does: with updates of the subresource scale, until there is no conflict."""
    path = f"/apis/apps/v1/namespaces/{api.namespace}/statefulsets/assistant/scale"

    def is_set() -> bool:
        body = json.loads(api.client.request("GET", path))
        body["spec"]["replicas"] = number
        try:
            api.client.request("PUT", path, [("fieldManager", "kube-controller-manager")], body)
        except ApiException as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    wait_until(is_set)


def replicas(api: Any) -> int:
    return int(api.get("StatefulSet", "assistant")["spec"]["replicas"])


def count(api: Any, existing: int, ready: int) -> None:
    """Write the status of the StatefulSet as its controller does."""
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    status = {"replicas": existing, "readyReplicas": ready, "observedGeneration": generation}
    body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"}, "status": status}
    api.apply_status(body)


def report(api: Any, kind: str, *conditions: tuple[str, str, str]) -> None:
    """Write the status of an autoscaler as its controller does."""
    body = api.get(kind, "assistant")
    rows = [
        {"type": name, "status": status, "reason": reason, "message": "no data"} for name, status, reason in conditions
    ]
    status: dict[str, Any] = {"conditions": rows}
    if kind == HPA:
        status |= {"desiredReplicas": 1, "currentReplicas": 1}
    identity = {name: body["metadata"][name] for name in ("name", "namespace")}
    api.client.apply({"apiVersion": body["apiVersion"], "kind": kind, "metadata": identity, "status": status},
                     subresource="status")  # fmt: skip


@pytest.mark.usefixtures("operator")
class TestAutoscaling:
    """With the actuator HPA."""

    def test_switching_it_on_and_off_never_changes_the_number_of_pods(self, api: Any) -> None:
        before = make(api, replicas=3)
        for spec in (SCALED, {"replicas": 3}, SCALED):
            after = make(api, **spec)
            assert after["spec"]["replicas"] == 3
            # The API server raises the generation with each change of the spec, so there was none in between.
            assert after["metadata"]["generation"] == before["metadata"]["generation"]

    def test_the_number_of_the_autoscaler_survives_other_changes_and_the_operator(self, api: Any) -> None:
        make(api, **SCALED)
        scale(api, 4)
        after = make(api, **SCALED, ollama={"numParallel": 2})
        assert after["spec"]["replicas"] == 4
        assert "OLLAMA_NUM_PARALLEL" in json.dumps(after)
        assert make(api, replicas=2)["spec"]["replicas"] == 2
        # The operator restores its own number again.
        scale(api, 5)
        wait_until(lambda: replicas(api) == 2)

    def test_a_new_endpoint_starts_with_the_minimum(self, api: Any) -> None:
        assert make(api, autoscaling={"minReplicas": 2, "maxReplicas": 5})["spec"]["replicas"] == 2

    def test_an_endpoint_without_pods_gets_its_first_ones(self, api: Any) -> None:
        make(api, replicas=0)
        assert make(api, **SCALED)["spec"]["replicas"] == 1
        scale(api, 0)
        wait_until(lambda: replicas(api) == 1)
        scale(api, 3)
        assert make(api, **SCALED, ollama={"numParallel": 2})["spec"]["replicas"] == 3

    def test_a_statefulset_that_is_created_again_keeps_the_pods_that_exist(self, api: Any) -> None:
        uid = make(api, **SCALED)["metadata"]["uid"]
        scale(api, 4)
        for ordinal in range(4):
            orphan = pod(f"assistant-{ordinal}", "assistant", uid)
            del orphan["metadata"]["ownerReferences"]
            api.apply(orphan)
        api.delete("StatefulSet", "assistant")
        again = wait_until(
            lambda: (body := api.get("StatefulSet", "assistant")) and body["metadata"]["uid"] != uid and body
        )
        assert again["spec"]["replicas"] == 4

    def test_the_status_counts_against_the_number_of_the_autoscaler(self, api: Any) -> None:
        make(api, **SCALED)
        scale(api, 3)
        count(api, 3, 1)
        wait_until(lambda: api.get(LLMENDPOINT, "assistant")["status"]["readyReplicas"] == 1)
        messages = {row["type"]: row["message"] for row in api.get(LLMENDPOINT, "assistant")["status"]["conditions"]}
        assert messages["Ready"] == "1 of 3 replicas are ready to serve requests."
        assert messages["Degraded"].startswith("1 of 3 replicas are ready to serve requests.")
        assert messages["Reconciling"] == "1 of 3 replicas are ready, and 3 pods exist."

    def test_an_autoscaler_is_restored_and_deleted(self, api: Any) -> None:
        make(api, **SCALED)
        body = api.get(HPA, "assistant")
        assert body["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "assistant"}
        api.patch(HPA, "assistant", {"spec": {"maxReplicas": 9}})
        wait_until(lambda: api.get(HPA, "assistant")["spec"]["maxReplicas"] == 5)
        make(api, replicas=1)
        wait_until(lambda: api.get(HPA, "assistant") is None)

    def test_what_the_autoscaler_reports_is_in_the_status(self, api: Any) -> None:
        make(api, **SCALED)
        count(api, 1, 1)
        report(api, HPA, ("AbleToScale", "True", "Ok"), ("ScalingActive", "False", "FailedGetExternalMetric"))
        wait_until(lambda: api.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("True", "AutoscalingUnavailable"))
        report(api, HPA, ("AbleToScale", "True", "Ok"), ("ScalingActive", "True", "ValidMetricFound"))
        wait_until(lambda: api.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("False", "AsWanted"))


@pytest.mark.usefixtures("operator")
class TestKubectl:
    """What `kubectl scale` does."""

    def test_it_scales_an_endpoint(self, api: Any, kubectl: Kubectl) -> None:
        make(api, replicas=1)
        kubectl.ok("scale", "llm", "assistant", "--replicas=3")
        wait_until(lambda: replicas(api) == 3)
        kubectl.ok("scale", "llm", "assistant", "--replicas=0")
        wait_until(lambda: replicas(api) == 0)

    def test_it_is_refused_while_the_endpoint_follows_its_load(self, api: Any, kubectl: Kubectl) -> None:
        make(api, **SCALED)
        refused = kubectl.run("scale", "llm", "assistant", "--replicas=3")
        assert refused.returncode != 0
        assert "replicas and autoscaling cannot be set together" in refused.stderr


@pytest.mark.usefixtures("operator")
class TestDisruptionBudget:
    """The PodDisruptionBudget of an endpoint."""

    def test_it_selects_the_pods_and_is_restored_and_deleted(self, api: Any) -> None:
        make(api, disruptionBudget={"minAvailable": "50%"})
        spec = api.get("PodDisruptionBudget", "assistant")["spec"]
        assert spec["minAvailable"] == "50%"
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        labels = api.get("StatefulSet", "assistant")["spec"]["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        api.patch("PodDisruptionBudget", "assistant", {"spec": {"minAvailable": 7}})
        wait_until(lambda: api.get("PodDisruptionBudget", "assistant")["spec"]["minAvailable"] == "50%")
        make(api)
        wait_until(lambda: api.get("PodDisruptionBudget", "assistant") is None)


@pytest.fixture(scope="module")
def keda(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> Iterator[Any]:
    """A namespace of an API server without KEDA, and an operator that uses it."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        flags = ("--autoscaling-actuator=KEDA", "--prometheus-url=http://prometheus.monitoring.svc:9090")
        operator = start_operator(*flags, kubeconfig=plane.operator)
        yield api
        operator.terminate()
        assert operator.wait(20) == 0


def test_keda_is_missed_found_and_used(keda: Any) -> None:
    keda.apply(endpoint("assistant", **SCALED))
    wait_until(lambda: keda.get("StatefulSet", "assistant") is not None)
    count(keda, 1, 1)
    wait_until(lambda: keda.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("True", "UnknownKind"))
    assert "Install KEDA" in json.dumps(keda.get(LLMENDPOINT, "assistant")["status"]["conditions"])

    # The schema is KEDA's own, so the API server would refuse a ScaledObject that KEDA cannot read.
    keda.client.apply(yaml.safe_load(CRD.read_text()))
    wait_until(lambda: exists(keda, "ScaledObject", "assistant"), 90)
    wait_until(lambda: keda.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("False", "AsWanted"))
    report(keda, "ScaledObject", ("Ready", "False", "TriggerError"))
    wait_until(lambda: keda.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("True", "AutoscalingUnavailable"))

    keda.patch("ScaledObject", "assistant", {"spec": {"maxReplicaCount": 9}})
    wait_until(lambda: keda.get("ScaledObject", "assistant")["spec"]["maxReplicaCount"] == 5)
    scale(keda, 0)
    assert make(keda, **SCALED, ollama={"numParallel": 2})["spec"]["replicas"] == 0
    make(keda, replicas=1)
    wait_until(lambda: not exists(keda, "ScaledObject", "assistant"))

    stranger = {"scaleTargetRef": {"name": "x"}, "triggers": [{"type": "cpu", "metadata": {"value": "1"}}]}
    keda.apply(
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "taken"}, "spec": stranger}
    )
    keda.apply(endpoint("taken", **SCALED))
    wait_until(lambda: keda.conditions(LLMENDPOINT, "taken").get("Degraded") == ("True", "NameConflict"))
    assert keda.get("ScaledObject", "taken")["spec"]["scaleTargetRef"] == {"name": "x"}


def exists(api: Any, kind: str, name: str) -> bool:
    try:
        return api.get(kind, name) is not None
    except Exception:
        return False


def test_without_an_autoscaler_the_status_says_what_to_set(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> None:
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        operator = start_operator(kubeconfig=plane.operator)
        make(api, **SCALED)
        count(api, 1, 1)
        wait_until(lambda: api.conditions(LLMENDPOINT, "assistant")["Degraded"] == ("True", "AutoscalingUnavailable"))
        assert "autoscaling.actuator" in json.dumps(api.get(LLMENDPOINT, "assistant")["status"]["conditions"])
        operator.terminate()
        assert operator.wait(20) == 0
