"""The operator is killed, its leader is lost, the control plane dies, a second release appears: each ends by itself.

The operator is not in the path of requests. Clients, pods and pulls do not notice any of it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.on_cluster.cluster import (
    NAMESPACE,
    ROOT,
    Namespace,
    Parameters,
    apply_namespace,
    fetch,
    helm,
    install_chart,
    kubectl,
    new_namespace,
)
from support.on_cluster.nodes import ControlPlane, Node
from support.on_cluster.operator_pods import Client, OperatorPods, is_ready, restarts
from support.on_cluster.refused_pods import SMALL
from support.on_cluster.slow_registry import start_slow_registry
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PULL_SECONDS = 45
#: 15 s without a renewal of the Lease, and the takeover.
FAILOVER_SECONDS = 20
#: A second installation takes over 30 s after the first one has ended.
TAKEOVER_SECONDS = 60
#: A poll of a sidecar that does not answer takes 2 s.
_POLL_SECONDS = 4
OTHER_NAMESPACE = "llmendpoint-other"


@dataclass
class World:
    """A namespace with endpoints that are Ready, and what their pods and StatefulSets were then."""

    namespace: Namespace
    parameters: Parameters
    operator: OperatorPods
    registry: str = ""

    def model(self, name: str, source: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"name": name, **(self.parameters.source() if source is None else source)}

    def apply(self, name: str, *models: dict[str, Any], **spec: Any) -> None:
        """Apply an endpoint."""
        self.namespace.apply(
            {
                "apiVersion": "llmendpoint.dev/v1alpha1",
                "kind": "LLMEndpoint",
                "metadata": {"name": name},
                "spec": {**SMALL, "models": list(models), **spec},
            }
        )

    def pods(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return the pods of an endpoint, by name."""
        found = self.namespace.run("get", "pods", "-l", f"llmendpoint.dev/endpoint={endpoint}", "-o", "json")
        return {pod["metadata"]["name"]: pod for pod in json.loads(found)["items"]}

    def identity(self, endpoint: str) -> dict[str, tuple[str, int]]:
        """Return the UID and restarts of each pod."""
        return {name: (pod["metadata"]["uid"], restarts(pod)) for name, pod in self.pods(endpoint).items()}

    def generation(self, endpoint: str) -> int:
        """Return the generation of the StatefulSet."""
        return int(self.namespace.get("statefulset", endpoint)["metadata"]["generation"])

    def settle(self, *endpoints: str, seconds: int = 180) -> None:
        """Wait until endpoints are Ready with the newest spec."""
        names = [f"llmendpoint/{name}" for name in endpoints]
        self.namespace.run("wait", "--for=condition=Ready", f"--timeout={seconds}s", *names)
        for name in endpoints:
            wait_until(lambda name=name: self.is_settled(name), seconds, every=0.3)  # type: ignore[misc]

    def is_settled(self, endpoint: str) -> bool:
        manifest = self.namespace.get("llmendpoint", endpoint)
        rows = {row["type"]: row["reason"] for row in manifest["status"]["conditions"]}
        wanted = {"Ready": "ModelsAnswer", "Reconciling": "Settled", "Stalled": "NotStalled", "Degraded": "AsWanted"}
        return wanted.items() <= rows.items() and (
            manifest["status"]["observedGeneration"] == manifest["metadata"]["generation"]
        )

    def load(self, name: str, endpoint: str, duration: str) -> None:
        """Apply a load test with few requests per second."""
        spec = {
            "endpointRef": {"name": endpoint},
            "load": {"rate": "2", "duration": duration},
            "request": {"maxTokens": 8},
        }
        body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": {"name": name}, "spec": spec}
        self.namespace.apply(body)

    def progress(self, name: str) -> int:
        return int((self.namespace.get("loadtest", name).get("status") or {}).get("progressPercent") or 0)

    def assert_undisturbed(self, load: str) -> None:
        """Check that a run ended as usual: one pod, each request answered, a complete result."""
        self.namespace.run("wait", "--for=condition=Complete", "--timeout=4m", f"loadtest/{load}")
        status = self.namespace.get("loadtest", load)["status"]
        assert status["summary"]["requests"] > 0
        assert status["summary"]["errors"] == 0, status
        assert "partial" not in status["summary"]
        row = self.namespace.condition("loadtest", load, "Passed")
        # On a busy machine, the load generator can be the bottleneck.
        assert row["reason"] in ("NoObjectives", "ClientLimited"), row
        found = self.namespace.run("get", "pods", "-l", f"llmendpoint.dev/loadtest={load}", "-o", "name").split()
        assert len(found) == 1


@pytest.fixture(scope="module")
def world(chart: None, parameters: Parameters) -> Iterator[World]:
    namespace = new_namespace("faults")
    world = World(namespace, parameters, OperatorPods())
    model = world.model(parameters.model)
    world.apply("steady", model)
    world.apply("swapped", model)
    world.apply("rolled", model, replicas=2)
    if parameters.registry:
        image = f"ghcr.io/llmendpoint/sidecar:{(ROOT / 'VERSION').read_text().strip()}"
        world.registry = start_slow_registry(namespace, parameters.registry, PULL_SECONDS, image)
    world.settle("steady", "swapped", "rolled")
    yield world
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def wait_for(check: Callable[[], Any], seconds: float = 120) -> None:
    wait_until(check, seconds, every=0.2)


@pytest.fixture(scope="module")
def storm(world: World) -> dict[str, Any]:
    """Kill the operator again and again during a pull, a swap of models, a rollout and a load run.

    Each kill comes at a point that one of the four has reached, which the test observes without the operator.
    """
    namespace, operator, parameters = world.namespace, world.operator, world.parameters
    before = {name: (world.identity(name), world.generation(name)) for name in ("steady", "swapped", "rolled")}
    world.load("during", "steady", "60s")
    wait_for(lambda: world.progress("during"))
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(namespace.forward("service/steady", 11434))
        client = stack.enter_context(Client.running(url, parameters.model))
        # The four changes are made while no operator runs.
        operator.delete_now()
        if world.registry:
            repository = parameters.repository
            source = {"registry": {"host": world.registry, "repository": repository, "insecure": True}}
            world.apply("pulled", world.model("slow:latest", {"source": source}))
        if parameters.registry:
            world.apply("swapped", world.model("other:latest"))
        world.apply(
            "rolled", world.model(parameters.model), replicas=2, pod={**SMALL["pod"], "annotations": {"round": "2"}}
        )
        for reached in points(world, stack, before["rolled"][1]):
            wait_for(reached)
            operator.delete_now()
        kill_process(operator)
        wait_for(lambda: client.answered > 20)
    return {"before": before, "client": client}


def points(world: World, stack: contextlib.ExitStack, generation: int) -> Iterator[Callable[[], Any]]:
    """Yield the points at which the operator is killed."""
    namespace = world.namespace

    def updated() -> int:
        status = namespace.get("statefulset", "rolled")["status"]
        return int(status.get("updatedReplicas") or 0) if status["observedGeneration"] > generation else 0

    # The StatefulSet has just been changed; its controller has replaced one of two pods.
    yield lambda: world.generation("rolled") > generation
    yield lambda: updated() == 1
    if world.registry:
        yield lambda: "pulled-0" in world.pods("pulled")
        registry = stack.enter_context(namespace.forward("pod/slow-registry", 5000))

        def share() -> float:
            return int(fetch(f"{registry}/sent")) / max(int(fetch(f"{registry}/size")), 1)

        for quarter in (0.01, 0.25, 0.5, 0.75):
            yield lambda quarter=quarter: share() >= quarter  # type: ignore[misc]


def kill_process(operator: OperatorPods) -> None:
    """Kill the process of the operator, so that kubelet starts its container again."""
    pod = operator.wait_until_serving()
    operator.kill(pod)
    name = pod["metadata"]["name"]
    wait_for(lambda: restarts(operator.namespace.get("pod", name)) == 1)


def test_a_pull_goes_on_while_the_operator_is_killed(world: World, storm: dict[str, Any]) -> None:
    if not world.registry:
        pytest.skip("THIS CLUSTER HAS NO REGISTRY OF ITS OWN: a slow pull was not looked at")
    world.settle("pulled")
    assert [one for _, one in world.identity("pulled").values()] == [0]
    assert world.generation("pulled") == 1
    with world.namespace.forward("pod/slow-registry", 5000) as registry:
        # Each byte was sent once.
        assert fetch(f"{registry}/sent") == fetch(f"{registry}/size")


def test_a_swap_of_models_ends_without_a_restart(world: World, storm: dict[str, Any]) -> None:
    if not world.parameters.registry:
        pytest.skip("THIS CLUSTER HAS NO REGISTRY OF ITS OWN: a swap of models was not looked at")
    # Kubelet passes a changed ConfigMap on about once a minute.
    wait_for(
        lambda: [one["readyReplicas"] for one in models(world, "swapped") if one["name"] == "other:latest"] == [1], 180
    )
    world.settle("swapped")
    assert [one["name"] for one in models(world, "swapped")] == ["other:latest"]
    assert (world.identity("swapped"), world.generation("swapped")) == storm["before"]["swapped"]


def models(world: World, endpoint: str) -> list[dict[str, Any]]:
    return list(world.namespace.get("llmendpoint", endpoint)["status"]["models"])


def test_a_rollout_replaces_each_pod_once(world: World, storm: dict[str, Any]) -> None:
    world.settle("rolled")
    identities, generation = storm["before"]["rolled"]
    assert world.generation("rolled") == generation + 1
    after = world.pods("rolled")
    assert {pod["metadata"]["annotations"]["round"] for pod in after.values()} == {"2"}
    assert not {uid for uid, _ in identities.values()} & {pod["metadata"]["uid"] for pod in after.values()}
    assert sum(map(restarts, after.values())) == 0
    events = world.namespace.run("get", "events", "--field-selector", "reason=SuccessfulCreate", "-o", "json")
    created = [item for item in json.loads(events)["items"] if item["involvedObject"]["name"] == "rolled"]
    pods = [item for item in created if "create pod" in item["message"].lower()]
    assert sum(item.get("count") or 1 for item in pods) == 4


def test_a_load_run_ends_with_its_verdict(world: World, storm: dict[str, Any]) -> None:
    world.assert_undisturbed("during")


def test_no_request_is_dropped_and_nothing_else_is_touched(world: World, storm: dict[str, Any]) -> None:
    client: Client = storm["client"]
    assert client.failures == []
    assert client.answered > 20
    assert (world.identity("steady"), world.generation("steady")) == storm["before"]["steady"]


def test_a_control_plane_that_dies_and_comes_back(world: World) -> None:
    control_plane = ControlPlane()
    world.settle("steady", "rolled")
    operator = world.operator.wait_until_serving()
    names = ("steady", "rolled")
    before = {name: (world.identity(name), world.generation(name)) for name in names}
    world.load("ungoverned", "steady", "60s")
    wait_for(lambda: world.progress("ungoverned"))
    # The Lease expires while the API server is down.
    for component, seconds in (("kube-apiserver", 20), ("etcd", 0)):
        control_plane.kill(component, seconds)
        began = time.monotonic()
        wait_for(lambda: kubectl("get", "--raw", "/readyz", check=False) == "ok")
        wait_for(lambda mark=component: works(world, mark), 60)  # type: ignore[misc]
        print(f"{component}: the operator worked {time.monotonic() - began:.1f} s after its return")
    world.settle(*names)
    assert {name: (world.identity(name), world.generation(name)) for name in names} == before
    world.assert_undisturbed("ungoverned")
    after = world.operator.wait_until_serving()
    assert after["metadata"]["uid"] == operator["metadata"]["uid"]
    assert restarts(after) == restarts(operator)


def works(world: World, mark: str) -> bool:
    """Change the endpoint, and return whether the operator has applied it."""
    patch = json.dumps({"spec": {"service": {"annotations": {"e2e": mark}}}})
    world.namespace.run("patch", "llmendpoint", "steady", "--type=merge", "--patch", patch, check=False)
    path = "jsonpath={.metadata.annotations.e2e}"
    return world.namespace.run("get", "service", "steady", "-o", path, check=False) == mark


def test_a_standby_takes_over_from_a_leader_that_is_killed(world: World) -> None:
    install_chart("llmendpoint", NAMESPACE, "--set", "operator.replicas=2", "--wait")
    try:
        leader = world.operator.wait_until_serving()
        before = (world.identity("steady"), world.generation("steady"))
        node = Node(leader)
        (process,) = node.processes("llmendpoint_operator")
        node.signal("STOP", process)
        began = time.monotonic()
        world.namespace.run("delete", "service", "steady")
        wait_until(lambda: world.namespace.run("get", "service", "steady", "--ignore-not-found"), 60, every=0.1)
        took = time.monotonic() - began
        successor = world.operator.leader()
        node.signal("KILL", process)
        print(f"failover: {took:.1f} s")
        assert took < FAILOVER_SECONDS
        assert successor != leader["metadata"]["name"]
        world.settle("steady")
        assert (world.identity("steady"), world.generation("steady")) == before
    finally:
        install_chart("llmendpoint", NAMESPACE)


def test_a_second_release_stands_back_and_takes_over_when_the_first_is_removed(world: World) -> None:
    world.settle("steady")
    wait_for(lambda: len(world.operator.all()) == 1)
    first = world.operator.wait_until_serving()
    before = (world.identity("steady"), world.generation("steady"))
    apply_namespace(OTHER_NAMESPACE)
    second = OperatorPods(OTHER_NAMESPACE)
    try:
        install_chart("second", OTHER_NAMESPACE, "--set", "crds.install=false")
        sentence = wait_until(lambda: standing_back(second), 90, every=0.5)
        assert f"{NAMESPACE}/llmendpoint" in sentence
        pod = second.only()
        assert not is_ready(pod)
        page = ready_page(second.namespace, pod["metadata"]["name"])
        assert f"{NAMESPACE}/llmendpoint" in page
        # It watches an edit, a deleted child and a poll without writing anything: only the first one's writes are there.
        world.namespace.run("delete", "service", "steady")
        wait_for(lambda: world.namespace.run("get", "service", "steady", "--ignore-not-found"))
        world.settle("steady")
        assert (world.identity("steady"), world.generation("steady")) == before
        assert world.operator.is_serving(first["metadata"]["name"])
        helm("uninstall", "llmendpoint", "--namespace", NAMESPACE, "--wait")
        began = time.monotonic()
        world.namespace.run("delete", "service", "steady")
        wait_for(lambda: world.namespace.run("get", "service", "steady", "--ignore-not-found"), TAKEOVER_SECONDS)
        print(f"takeover: {time.monotonic() - began:.1f} s")
        wait_for(lambda: is_ready(second.only()), 30)
        world.settle("steady")
        assert (world.identity("steady"), world.generation("steady")) == before
    finally:
        helm("uninstall", "second", "--namespace", OTHER_NAMESPACE, "--wait", "--ignore-not-found")
        kubectl("delete", "namespace", OTHER_NAMESPACE, "--wait=false")
        install_chart("llmendpoint", NAMESPACE, "--wait")
    world.operator.wait_until_serving(90)


def standing_back(operator: OperatorPods) -> str:
    """Return the message of the Event of an operator that stands back."""
    path = "jsonpath={.items[*].message}"
    return operator.namespace.run("get", "events", "--field-selector", "reason=StandingBack", "-o", path)


def ready_page(namespace: Namespace, pod: str) -> str:
    """Return the text of /readyz, which answers 503."""
    with namespace.forward(f"pod/{pod}", 8080) as url:
        command = ["curl", "-sS", "-w", " %{http_code}", f"{url}/readyz"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert text.endswith(" 503")
    return text


def test_an_unreachable_sidecar_is_told_and_the_endpoint_stays_ready(world: World) -> None:
    world.settle("steady")
    (pod,) = world.pods("steady").values()
    source = world.operator.wait_until_serving()["status"]["podIP"]
    with Node(pod).blocked(source, 8001):
        row = wait_until(lambda: reason_of(world, "ModelsAvailable", "SidecarUnreachable"), 120, every=_POLL_SECONDS)
        assert row["status"] == "Unknown"
        assert pod["status"]["podIP"] in row["message"]
        assert reason_of(world, "ModelsLoaded", "SidecarUnreachable")
        assert reason_of(world, "Ready", "ModelsAnswer")
    wait_until(lambda: reason_of(world, "ModelsAvailable", "AllPresent"), 90, every=_POLL_SECONDS)


def reason_of(world: World, condition: str, reason: str) -> dict[str, str] | None:
    """Return a condition of the endpoint if it has a reason. The changed annotation makes the operator look now."""
    world.namespace.run("annotate", "llmendpoint", "steady", "--overwrite", f"e2e/looked-at={time.time()}")
    row = world.namespace.condition("llmendpoint", "steady", condition)
    return row if row["reason"] == reason else None
