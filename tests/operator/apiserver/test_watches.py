"""The watches against a real API server, with faults injected into single requests.

The watches run in the test, without the rest of the operator, so that a test sees what the inventory knows.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.config import kube_config

from llmendpoint_operator.cluster.client import ApiServer, load_configuration
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.watching import kopf_feed, kopf_thread, listing, reflector
from llmendpoint_operator.watching import watches as watches_module
from llmendpoint_operator.watching.access import Access
from llmendpoint_operator.watching.watches import Watches, WatchesError
from support.api_server.fault_proxy import Fault, FaultProxy, lists, watches
from support.api_server.manifests import endpoint
from support.waiting import eventually

# A connection that does not answer cannot be closed in good order.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LABELS = {"app.kubernetes.io/managed-by": "llmendpoint", "llmendpoint.dev/endpoint": "assistant"}
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "labels": LABELS}}
CHILD = ChildKey("ConfigMap", "assistant")


def config_map(name: str = "assistant") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": LABELS}, "data": {"a": "b"}}


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what kopf leaves behind in the test that started it, so that its warnings are not those of another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def plane(start_control_plane: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """An API server without an operator."""
    with start_control_plane() as found:
        yield found


@pytest.fixture
def api(plane: Any, make_namespace: Callable[..., Any]) -> Any:
    return make_namespace(plane=plane)


@pytest.fixture
def proxy(plane: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    found = FaultProxy(plane.operator, tmp_path)
    # The client reads the environment when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(found.kubeconfig))
    monkeypatch.setenv("POD_ID", "test")
    yield found
    found.close()


class World:
    """Running watches of one namespace, and what they have found."""

    def __init__(self, api: Any, server: ApiServer) -> None:
        self.api = api
        self.key = Key("LLMEndpoint", api.namespace, "assistant")
        self.inventory, self.discovery = Inventory(), Discovery()
        self.marked: list[Key] = []
        self.watches = Watches(
            self.inventory, Access(server, self.discovery), self.marked.append, [api.namespace], self.on_lease
        )
        self.leases: dict[str, int] = {}
        self.task: asyncio.Future[None]

    def on_lease(self, body: dict[str, Any], deleted: bool) -> None:
        if deleted:
            self.leases.pop(body["metadata"]["name"], None)
        else:
            self.leases[body["metadata"]["name"]] = int(body["metadata"]["resourceVersion"])

    @property
    def has_child(self) -> bool:
        """Whether the watch shows the child. One that it no longer shows is kept until a reconcile has read it."""
        known = self.inventory.child(self.key, *CHILD) is not None
        return known and not self.inventory.is_unshown(self.key, CHILD)

    @property
    def has_endpoint(self) -> bool:
        return self.inventory.resource(self.key) is not None

    async def sees_changes(self, seconds: float = 15.0) -> None:
        """Check that the watches show new and deleted objects: a child through a reflector, an endpoint through kopf."""
        self.api.apply(config_map())
        self.api.apply(endpoint("assistant"))
        await eventually(lambda: self.has_child and self.has_endpoint, seconds)
        self.api.delete("ConfigMap", "assistant")
        self.api.delete("LLMEndpoint", "assistant")
        try:
            await eventually(lambda: not self.has_child and not self.has_endpoint, seconds)
        except AssertionError:
            raise AssertionError(f"child {self.has_child}, endpoint {self.has_endpoint}") from None


@asynccontextmanager
async def running(api: Any) -> AsyncIterator[World]:
    server, stopping = ApiServer(await load_configuration()), asyncio.Event()
    api.apply(LEASE)
    world = World(api, server)
    task = world.task = asyncio.ensure_future(world.watches.run(stopping))
    try:
        yield world
    finally:
        stopping.set()
        began = asyncio.get_running_loop().time()
        try:
            await task
        finally:
            await server.close()
        assert asyncio.get_running_loop().time() - began < 5


async def until_listed(world: World) -> None:
    await eventually(lambda: world.watches.listed, 20)


async def test_objects_come_and_go(api: Any, proxy: FaultProxy) -> None:
    async with running(api) as world:
        await until_listed(world)
        await world.sees_changes()
        assert world.watches.problems() == []
        assert world.key in world.marked


async def test_dropped_watches_are_continued_without_a_new_listing(api: Any, proxy: FaultProxy) -> None:
    async with running(api) as world:
        await world.sees_changes()
        before = proxy.requests["GET", "configmaps"]
        proxy.drop(watches())
        await world.sees_changes()
        assert proxy.requests["GET", "configmaps"] == before


async def test_what_is_deleted_while_a_watch_is_expired_is_gone(api: Any, proxy: FaultProxy) -> None:
    """410 as an event of a watch, and as a response to a watch."""
    for fault in (Fault(watches(), watch_error=410), Fault(watches(), status=410)):
        async with running(api) as world:
            api.apply(config_map())
            api.apply(endpoint("assistant"))
            await eventually(lambda: world.has_child and world.has_endpoint, 15)
            proxy.drop(watches())
            with proxy.fault(fault):
                proxy.drop(watches())
                api.delete("ConfigMap", "assistant")
                api.delete("LLMEndpoint", "assistant")
                await eventually(lambda: not world.has_child, 15)
            await eventually(lambda: not world.has_endpoint, 15)
            await world.sees_changes()


async def test_expired_pages_of_a_listing(api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE", 2)
    monkeypatch.setattr(kopf_feed, "_PAGE", 2)
    for index in range(5):
        api.apply(config_map(f"child-{index}"))
        api.apply(endpoint(f"endpoint-{index}"))
    fault = Fault(lambda seen: seen.is_list and "continue" in seen.query, status=410)
    with proxy.fault(fault):
        async with running(api) as world:
            await until_listed(world)
            assert len(world.inventory.seen(world.key).children) == 5
            assert len(world.inventory.resources()) == 5
    async with running(api) as world:
        await until_listed(world)
        assert len(world.inventory.resources()) == 5


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_errors_that_pass(api: Any, proxy: FaultProxy, status: int) -> None:
    fault = Fault(lambda _: True, status=status, headers={"Retry-After": "1"}, times=40)
    async with running(api) as world:
        await world.sees_changes()
        with proxy.fault(fault):
            proxy.drop(watches())
            await eventually(lambda: proxy.requests["WATCH", "configmaps"] >= 2)
        await world.sees_changes(30)
    with proxy.fault(Fault(lambda _: True, status=status, headers={"Retry-After": "1"}, times=15)):
        async with running(api) as world:
            await until_listed(world)
            await world.sees_changes(30)


async def test_retry_after_is_respected(api: Any, proxy: FaultProxy) -> None:
    fault = Fault(lists("configmaps"), status=429, headers={"Retry-After": "3"}, times=1)
    with proxy.fault(fault):
        async with running(api) as world:
            began = asyncio.get_running_loop().time()
            await until_listed(world)
            assert asyncio.get_running_loop().time() - began >= 3
            assert proxy.requests["GET", "configmaps"] == 2


async def test_watches_that_deliver_nothing(api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections are open, but silent: those of reflectors, and those of kopf."""
    monkeypatch.setattr(reflector, "SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(kopf_feed, "SILENCE_SECONDS", 3.0)
    async with running(api) as world:
        await world.sees_changes()
        proxy.silence(watches())
        await world.sees_changes(20)


async def test_a_slow_kind_delays_no_other(api: Any, proxy: FaultProxy) -> None:
    api.apply(config_map())
    api.apply(endpoint("assistant"))
    answered = threading.Event()
    with proxy.fault(Fault(lists("loadtests", "roles"), held_until=answered)):
        async with running(api) as world:
            await eventually(lambda: world.has_child and world.has_endpoint)
            assert not world.watches.listed
            edited = api.apply(endpoint("assistant", replicas=3))
            await eventually(lambda: (world.inventory.resource(world.key) or {})["spec"].get("replicas") == 3)
            assert edited["spec"]["replicas"] == 3
            assert world.marked == []
            answered.set()
            await until_listed(world)
            assert world.marked == [world.key]


async def test_kopf_is_started_again_if_lease_renewals_do_not_arrive(
    api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kopf_feed, "RESTART_SECONDS", 3.0)
    async with running(api) as world:
        await world.sees_changes()
        # All open watches of kopf are silent for longer than the canary waits.
        proxy.silence(watches("leases", "llmendpoints", "loadtests"))
        await renew_until(world, lambda: "kopf is started again" in caplog.text and not world.watches.canary.overdue())
        assert "has not shown a renewal" in caplog.text
        await eventually(lambda: "l" in world.leases)
        await world.sees_changes()


async def test_a_dead_watch_of_kopf_is_found_by_a_listing(
    api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """kopf gets no response to its first listing of endpoints, and ours shows one."""
    monkeypatch.setattr("llmendpoint_operator.watching.confirmations._CHECKS_SECONDS", (1.0, 1.0, 1.0))
    api.apply(endpoint("assistant"))
    silent = Fault(
        lambda seen: lists("llmendpoints")(seen) and proxy.requests["GET", "llmendpoints"] == 2, silent=True, times=1
    )
    with proxy.fault(silent):
        async with running(api) as world:
            await eventually(lambda: "does not show an object that a listing shows" in caplog.text, 20)
            assert proxy.is_used_up(silent)
            await eventually(lambda: world.has_endpoint)
            await world.sees_changes()


async def renew_until(world: World, check: Callable[[], bool]) -> None:
    """Renew a Lease, as leader election does, until a condition holds."""
    for seconds in range(150):
        spec = {"renewTime": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000000Z"}
        body = world.api.apply({**LEASE, "spec": spec})
        world.watches.canary.sent(world.api.namespace, int(body["metadata"]["resourceVersion"]))
        if check():
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the condition did not hold")


async def test_another_kopf_is_started_if_the_event_loop_of_the_first_one_hangs(
    api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kopf_feed, "RESTART_SECONDS", 3.0)
    monkeypatch.setattr(kopf_thread, "_CANCEL_SECONDS", 0.2)
    monkeypatch.setattr(kopf_thread, "_FORCE_SECONDS", 0.2)
    release, first, original = threading.Event(), [True], kopf_feed._event

    async def hang_once(*args: Any, **kwargs: Any) -> None:
        if first:
            first.clear()
            release.wait(60)
        await original(*args, **kwargs)

    monkeypatch.setattr(kopf_feed, "_event", hang_once)
    try:
        async with running(api) as world:
            await renew_until(world, lambda: "left behind" in caplog.text and not world.watches.canary.overdue())
            await world.sees_changes()
    finally:
        release.set()


async def test_the_watches_end_with_an_error_if_nothing_helps(
    api: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches_module, "FATAL_SECONDS", 4.0)
    monkeypatch.setattr(watches_module, "_CHECK_SECONDS", 0.2)
    with proxy.fault(Fault(watches("leases"), silent=True)), pytest.raises(WatchesError, match="The process ends"):
        async with running(api) as world:
            await renew_until(world, world.task.done)
