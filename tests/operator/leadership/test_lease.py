"""Leader election with requests: what is sent, and that nothing is written without leadership."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_common.process.errors import NotLeaderError
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.leadership import lease
from llmendpoint_operator.leadership.lease import Leadership, candidates
from llmendpoint_operator.reconcile.workqueue import WorkQueue
from support.in_memory.fakes import refusal
from support.waiting import eventually

PATH = "/apis/coordination.k8s.io/v1/namespaces/ops/leases"
CONFLICT = '{"kind":"Status","message":"modified","details":{"name":"llmendpoint-operator"}}'


class Server:
    """Leases in memory. While `hangs` is set, requests get no response."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self.hangs = False
        self.refuses: Exception | None = None
        self._version = 10

    async def request(
        self, method: str, path: str, query: Any = (), body: Any = None, content_type: str = ""
    ) -> dict[str, Any]:
        self.requests.append((method, path))
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses is not None:
            raise self.refuses
        if method == "GET":
            return {"items": list(self.leases.values())}
        present = self.leases.get(PATH)
        if body["metadata"].get("resourceVersion") != (present or {"metadata": {}})["metadata"].get("resourceVersion"):
            raise refusal(409, CONFLICT)
        self._version += 1
        self.leases[PATH] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        return self.leases[PATH]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(lease, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def leadership(server: Server, on_change: Callable[[], None] = lambda: None, pod: str = "pod-a") -> Leadership:
    made = candidates("ops", "one", pod, ())
    return Leadership(server, made, lambda: datetime.now(UTC), on_change)  # type: ignore[arg-type]


async def test_it_creates_the_lease_checks_that_it_is_alone_and_gives_the_lease_back(clock: Clock) -> None:
    server, stopping, changes = Server(), asyncio.Event(), list[str]()
    found = leadership(server, lambda: changes.append("change"))
    assert not found.may_write("x")
    task = asyncio.create_task(found.run(stopping))
    await eventually(lambda: found.may_write("x"))
    assert [method for method, _ in server.requests] == ["GET", "POST", "GET"]
    assert changes
    stopping.set()
    await task
    assert not found.may_write("x")
    assert server.requests[-1] == ("PUT", f"{PATH}/llmendpoint-operator")
    assert server.leases[PATH]["spec"]["holderIdentity"] == ""


async def test_a_renewal_without_response_is_given_up_and_tried_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, stopping = Server(), asyncio.Event()
    found = leadership(server)
    task = asyncio.create_task(found.run(stopping))
    await eventually(lambda: found.may_write("x"))
    elector = next(iter(found._electors.values()))
    server.hangs = True
    with monkeypatch.context() as patched:
        patched.setattr(lease, "_TIMEOUT_SECONDS", 0.02)
        clock.now += 5.1
        elector._wake.set()
        await eventually(lambda: elector.error == "timed out")
    assert found.may_write("x")
    clock.now += 5
    assert not found.may_write("x")
    server.hangs = False
    elector._wake.set()
    await eventually(lambda: found.may_write("x"))
    stopping.set()
    await task


async def test_a_running_reconcile_writes_nothing_after_the_deadline_and_is_stopped(clock: Clock) -> None:
    server, stopping = Server(), asyncio.Event()
    written: list[str] = []
    awake = asyncio.Event()
    queue: WorkQueue

    async def reconcile(key: Key) -> float | None:
        objects = Objects(server, found.may_write)  # type: ignore[arg-type]
        await awake.wait()
        await objects.patch("Service", key.namespace, key.name, {})
        written.append(key.name)
        return None

    found = leadership(server, lambda: queue.recheck())  # noqa: PLW0108 - the queue is created later
    queue = WorkQueue(reconcile, lambda key: found.may_write(key.namespace))
    task = asyncio.create_task(found.run(stopping))
    await eventually(lambda: found.may_write("x"))
    queue.mark(Key("LLMEndpoint", "x", "a"))
    await eventually(lambda: queue.running == 1)
    # The process was paused. Its reconcile goes on before any timer.
    server.hangs = True
    clock.now += 60
    awake.set()
    await eventually(lambda: queue.running == 0)
    assert written == []
    assert not [path for _, path in server.requests if "services" in path]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await queue.close()


async def test_a_process_with_the_same_name_does_not_think_that_it_holds_the_lease(clock: Clock) -> None:
    server, stopping = Server(), asyncio.Event()
    first, second = leadership(server), leadership(server)
    tasks = [asyncio.create_task(first.run(stopping))]
    await eventually(lambda: first.may_write("x"))
    tasks.append(asyncio.create_task(second.run(stopping)))
    await eventually(lambda: second.standings()[0][1].other is not None)
    assert not second.may_write("x")
    stopping.set()
    await asyncio.gather(*tasks)


async def test_a_refused_lease_is_told(clock: Clock) -> None:
    server, stopping = Server(), asyncio.Event()
    server.refuses = refusal(403, '{"kind":"Status","message":"leases is forbidden","details":{"name":"x"}}')
    found = leadership(server)
    task = asyncio.create_task(found.run(stopping))
    await eventually(lambda: found.standings()[0][2] == "403 leases is forbidden")
    assert not found.may_write("x")
    stopping.set()
    await task


def test_without_candidates_everything_may_be_written() -> None:
    found = Leadership(Server(), (), lambda: datetime.now(UTC), lambda: None)  # type: ignore[arg-type]
    assert found.may_write("x")
    assert not found.is_elected


async def test_no_kind_of_write_is_sent_without_leadership() -> None:
    server = Server()
    objects = Objects(server, lambda namespace: namespace == "ours")  # type: ignore[arg-type]
    metadata = {"name": "a", "namespace": "theirs", "uid": "1", "resourceVersion": "1"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    owned = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": metadata}
    for write in (
        objects.create(service), objects.apply(service, "1"), objects.apply_status(owned, {}), objects.delete("Service", "theirs", "a", "1"),
        objects.patch("Service", "theirs", "a", {}), objects.record({"kind": "Event", "metadata": {"namespace": "theirs"}}),
    ):  # fmt: skip
        with pytest.raises(NotLeaderError, match="namespace theirs"):
            await write
    assert server.requests == []
