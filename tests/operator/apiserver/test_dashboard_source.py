"""The dashboard's source of the cluster against a real API server, with the rights of the chart and injected faults."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.diagnosis.facts import ClusterFacts
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_common.process.errors import NoClusterError
from llmendpoint_dashboard.cluster import reflector
from llmendpoint_dashboard.cluster.client import ApiServer, load_configuration
from llmendpoint_dashboard.cluster.kinds import rules
from llmendpoint_dashboard.cluster.sidecars import SidecarAddress
from llmendpoint_dashboard.contract import DoctorRow, EndpointRow, LoadTestRow
from llmendpoint_dashboard.sources.cluster import ClusterSource
from llmendpoint_dashboard.state import Hub
from support.api_server.control_plane import STRANGER_USER, ControlPlane
from support.api_server.fault_proxy import Fault, FaultProxy, lists, watches
from support.api_server.manifests import endpoint, loadtest, schedule
from support.waiting import eventually

# A connection that does not answer cannot be closed in good order.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

API = "rbac.authorization.k8s.io"
READY = {
    "type": "Ready", "status": "False", "reason": "Starting", "message": "No replica answers yet.",
    "lastTransitionTime": "2026-11-26T14:00:00Z", "observedGeneration": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect connections whose TLS was not shut down in the test that left them."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def plane(start_control_plane: Callable[[], AbstractContextManager[ControlPlane]]) -> Iterator[ControlPlane]:
    """An API server without an operator."""
    with start_control_plane() as found:
        yield found


@pytest.fixture
def api(plane: ControlPlane, make_namespace: Callable[..., Any]) -> Any:
    """A namespace in which the dashboard has the rights of the chart."""
    found = make_namespace(plane=plane)
    grant(found)
    return found


def grant(api: Any) -> None:
    name = {"name": "dashboard"}
    api.apply({"apiVersion": f"{API}/v1", "kind": "Role", "metadata": name, "rules": rules()})
    api.apply({
        "apiVersion": f"{API}/v1", "kind": "RoleBinding", "metadata": name,
        "roleRef": {"apiGroup": API, "kind": "Role", "name": "dashboard"},
        "subjects": [{"apiGroup": API, "kind": "User", "name": STRANGER_USER}],
    })  # fmt: skip


@pytest.fixture
def proxy(plane: ControlPlane, tmp_path: Path) -> Iterator[FaultProxy]:
    """The way to the API server, for a user that has only the rights that the test has granted."""
    found = FaultProxy(plane.stranger, tmp_path)
    yield found
    found.close()


def judge(facts: ClusterFacts) -> Sequence[Finding]:
    """Return a finding for each endpoint that is not ready, and one if the API server does not answer."""
    found = [
        Finding(Severity.ERROR, item.reason, f"LLMEndpoint {one.namespace}/{one.name}", item.message, "Wait for it.")
        for one in facts.endpoints
        for item in one.conditions
        if item.type == "Ready" and item.status == "False"
    ]
    return [
        *found,
        *([Finding(Severity.ERROR, "ClusterUnreachable", "API server", facts.error)] if facts.error else []),
    ]


class World:
    """A running source of one namespace, and what it has written."""

    def __init__(self, api: Any, server: ApiServer, namespaces: Sequence[str] | None = None) -> None:
        self.api = api
        self.hub = Hub()
        self.sidecars: tuple[SidecarAddress, ...] = ()
        scopes = [api.namespace] if namespaces is None else namespaces
        self.source = ClusterSource(server, scopes, self.hub, self.moved, judge)

    def moved(self, found: tuple[SidecarAddress, ...]) -> None:
        self.sidecars = found

    def endpoint(self, name: str = "assistant") -> EndpointRow | None:
        return self.hub.row("endpoints", f"{self.api.namespace}/{name}", EndpointRow)

    def loadtest(self, name: str = "nightly") -> LoadTestRow | None:
        return self.hub.row("loadtests", f"{self.api.namespace}/{name}", LoadTestRow)

    @property
    def findings(self) -> dict[str, DoctorRow]:
        rows = self.hub.rows("doctor")
        return {row.cause: row for row in rows if isinstance(row, DoctorRow)}

    async def sees_changes(self, seconds: float = 15.0) -> None:
        """Check that new and deleted objects arrive."""
        self.api.apply(endpoint("probe"))
        self.api.apply(loadtest("probe"))
        await eventually(lambda: self.endpoint("probe") is not None and self.loadtest("probe") is not None, seconds)
        self.api.delete("LLMEndpoint", "probe")
        self.api.delete("LoadTest", "probe")
        await eventually(lambda: self.endpoint("probe") is None and self.loadtest("probe") is None, seconds)


@asynccontextmanager
async def running(api: Any, kubeconfig: Path, namespaces: Sequence[str] | None = None) -> AsyncIterator[World]:
    server = ApiServer(await load_configuration(kubeconfig))
    world = World(api, server, namespaces)
    task = asyncio.ensure_future(world.source.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.close()


def status(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "status": fields}


async def test_endpoints_appear_with_conditions_and_advice(api: Any, proxy: FaultProxy) -> None:
    api.apply(endpoint("assistant"))
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.source.is_listed and world.source.message == "")
        await eventually(lambda: world.endpoint() is not None)
        api.apply_status(status("LLMEndpoint", "assistant", conditions=[READY], replicas=1))
        await eventually(
            lambda: (world.endpoint() or EndpointRow(key="", namespace="", name="", ready="")).replicas == 1
        )
        row = world.endpoint()
        assert row is not None
        assert (row.ready, row.reason, row.message) == ("False", "Starting", "No replica answers yet.")
        assert row.advice == "Wait for it."
        await eventually(lambda: "Starting" in world.findings)
        api.delete("LLMEndpoint", "assistant")
        await eventually(lambda: world.endpoint() is None)
        await eventually(lambda: "Starting" not in world.findings)


async def test_load_tests_appear_with_progress_and_verdict(api: Any, proxy: FaultProxy) -> None:
    api.apply(loadtest("nightly", slo=[{"metric": "TTFT", "percentile": 95, "threshold": "2s"}]))
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.loadtest() is not None)
        passed = {"type": "Passed", "status": "Unknown", "reason": "Running", "message": "12 requests, 0 errors.",
                  "lastTransitionTime": "2026-11-26T14:00:00Z", "observedGeneration": 1}  # fmt: skip
        api.apply_status(status("LoadTest", "nightly", conditions=[passed], progressPercent=40))
        await eventually(lambda: getattr(world.loadtest(), "percent", 0) == 40)
        row = world.loadtest()
        assert row is not None
        assert row.state == "running"
        assert [item.text for item in row.objectives] == ["TTFT p95 ≤ 2 s"]
        assert world.source.summary(row.key) is None
        summary = {"requests": 60, "errors": 0, "requestsPerSecond": "2"}
        ended = [
            {**passed, "status": "True", "reason": "ObjectivesMet"},
            {**passed, "type": "Complete", "status": "True"},
        ]
        api.apply_status(status("LoadTest", "nightly", conditions=ended, verdict="Passed", summary=summary))
        await eventually(lambda: getattr(world.loadtest(), "verdict", "") == "Passed")
        assert world.source.summary(row.key)["requests"] == 60


async def test_a_stalled_schedule_is_a_finding(api: Any, proxy: FaultProxy) -> None:
    api.apply(schedule("every-night"))
    stalled = {"type": "Stalled", "status": "True", "reason": "PolicyViolation", "message": "targetHosts forbids it.",
               "lastTransitionTime": "2026-11-26T14:00:00Z", "observedGeneration": 1}  # fmt: skip
    async with running(api, proxy.kubeconfig) as world:
        api.apply_status(status("LoadTestSchedule", "every-night", conditions=[stalled]))
        await eventually(lambda: "PolicyViolation" in world.findings)
        assert world.findings["PolicyViolation"].subject == f"LoadTestSchedule {api.namespace}/every-night"


async def test_the_sidecars_of_endpoints_are_found(api: Any, proxy: FaultProxy, plane: ControlPlane) -> None:
    labels = {"app.kubernetes.io/managed-by": "llmendpoint", "llmendpoint.dev/scrape": "true",
              "llmendpoint.dev/endpoint": "assistant", "kubernetes.io/service-name": "assistant-pods"}  # fmt: skip
    body = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "assistant-pods-x", "namespace": api.namespace, "labels": labels},
        "ports": [{"name": "metrics", "port": 8001}],
        "endpoints": [{"addresses": ["10.244.0.7"],
                       "targetRef": {"kind": "Pod", "namespace": api.namespace, "name": "assistant-0"}}],
    }  # fmt: skip
    assert plane.client is not None
    plane.client.request("POST", f"/apis/discovery.k8s.io/v1/namespaces/{api.namespace}/endpointslices", [], body)
    async with running(api, proxy.kubeconfig) as world:
        # An EndpointSlice of no endpoint is not followed.
        await eventually(lambda: world.source.is_listed)
        world.source.flush()
        assert not world.sidecars
        api.apply(endpoint("assistant"))
        await eventually(lambda: len(world.sidecars) == 1)
        found = {address.name: address.url for address in world.sidecars}
        assert found == {f"{api.namespace}/assistant-0": "http://10.244.0.7:8001"}
        api.delete("LLMEndpoint", "assistant")
        await eventually(lambda: not world.sidecars)


async def test_dropped_watches_are_continued_without_a_new_listing(api: Any, proxy: FaultProxy) -> None:
    async with running(api, proxy.kubeconfig) as world:
        await world.sees_changes()
        before = proxy.requests["GET", "llmendpoints"]
        proxy.drop(watches())
        await world.sees_changes()
        assert proxy.requests["GET", "llmendpoints"] == before


@pytest.mark.parametrize("fault", [Fault(watches(), watch_error=410), Fault(watches(), status=410)])
async def test_what_is_deleted_while_a_watch_is_expired_is_gone(api: Any, proxy: FaultProxy, fault: Fault) -> None:
    api.apply(endpoint("assistant"))
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.endpoint() is not None)
        with proxy.fault(fault):
            proxy.drop(watches())
            api.delete("LLMEndpoint", "assistant")
            await eventually(lambda: world.endpoint() is None, 15)
        await world.sees_changes()


async def test_expired_pages_of_a_listing(api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_PAGE", 2)
    for index in range(5):
        api.apply(endpoint(f"endpoint-{index}"))
    with proxy.fault(Fault(lambda seen: seen.is_list and "continue" in seen.query, status=410)):
        async with running(api, proxy.kubeconfig) as world:
            await eventually(lambda: world.source.is_listed)
            assert len(world.hub.rows("endpoints")) == 5
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.source.is_listed)
        assert len(world.hub.rows("endpoints")) == 5


async def test_watches_that_deliver_nothing_are_replaced(
    api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "SILENCE_SECONDS", 2.0)
    async with running(api, proxy.kubeconfig) as world:
        await world.sees_changes()
        proxy.silence(watches())
        await world.sees_changes(20)


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_errors_that_pass_are_shown_while_they_last(api: Any, proxy: FaultProxy, code: int) -> None:
    api.apply(endpoint("assistant"))
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.endpoint() is not None and world.source.is_listed)
        with proxy.fault(Fault(lambda _: True, status=code)):
            proxy.drop(watches())
            await eventually(lambda: "does not answer" in world.source.message)
            await eventually(lambda: "ClusterUnreachable" in world.findings)
            # What was seen last stays.
            assert world.endpoint() is not None
        await eventually(lambda: world.source.message == "", 30)
        await eventually(lambda: "ClusterUnreachable" not in world.findings)
        await world.sees_changes()


async def test_a_refused_kind_hides_no_other_and_is_named(api: Any, proxy: FaultProxy) -> None:
    with proxy.fault(Fault(lists("endpointslices"), status=403)):
        async with running(api, proxy.kubeconfig) as world:
            await world.sees_changes()
            await eventually(lambda: "refuses to list endpointslices" in world.source.message)
            assert world.source.is_listed
            await eventually(lambda: "Forbidden" in world.findings)
            assert "rbac.create" in world.findings["Forbidden"].sentence
            assert "ClusterUnreachable" not in world.findings


async def test_without_rights_the_message_says_which_ones_to_give(
    plane: ControlPlane, make_namespace: Callable[..., Any], proxy: FaultProxy
) -> None:
    api = make_namespace(plane=plane)
    async with running(api, proxy.kubeconfig) as world:
        await eventually(lambda: world.source.message != "" and world.source.is_listed)
        assert f"refuses to list llmendpoints in namespace {api.namespace}" in world.source.message
        grant(api)
        await eventually(lambda: world.source.message == "", 30)
        await world.sees_changes()


async def test_a_kind_that_the_cluster_lacks_is_named(api: Any, proxy: FaultProxy) -> None:
    with proxy.fault(Fault(lambda seen: seen.resource == "loadtests", status=404)):
        async with running(api, proxy.kubeconfig) as world:
            await eventually(lambda: "does not have the kind LoadTest" in world.source.message)
            assert "manifests/crds" in world.source.message


async def test_other_namespaces_are_not_read(
    api: Any, proxy: FaultProxy, plane: ControlPlane, make_namespace: Callable[..., Any]
) -> None:
    other = make_namespace(plane=plane)
    grant(other)
    other.apply(endpoint("hidden"))
    async with running(api, proxy.kubeconfig) as world:
        await world.sees_changes()
        assert f"{other.namespace}/hidden" not in {row.key for row in world.hub.rows("endpoints")}
    async with running(api, proxy.kubeconfig, [api.namespace, other.namespace]) as world:
        await world.sees_changes()
        assert f"{other.namespace}/hidden" in {row.key for row in world.hub.rows("endpoints")}


async def test_the_dashboard_only_reads(api: Any, proxy: FaultProxy) -> None:
    async with running(api, proxy.kubeconfig) as world:
        await world.sees_changes()
    assert {method for method, _ in proxy.requests} == {"GET", "WATCH"}
    assert {resource for _, resource in proxy.requests} == {
        "llmendpoints", "loadtests", "loadtestschedules", "endpointslices",
    }  # fmt: skip


async def test_no_cluster_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoClusterError, match="there is no cluster to connect to"):
        await load_configuration(tmp_path / "missing")
