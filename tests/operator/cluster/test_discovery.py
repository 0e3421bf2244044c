"""Discovery of kinds that the cluster does not have, and of kinds that appear later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.cluster import discovery
from llmendpoint_operator.cluster.discovery import Discovery, served
from support.waiting import eventually

MONITORS = "/apis/monitoring.coreos.com/v1"
OURS = "/apis/llmendpoint.dev/v1alpha1"


class Server:
    """An API server that serves these groups."""

    def __init__(self) -> None:
        self.groups = {OURS: ["llmendpoints", "loadtests"]}
        self.requests = 0

    async def request(self, method: str, path: str) -> Any:
        self.requests += 1
        if path not in self.groups:
            raise ApiException(http_resp=SimpleNamespace(status=404, reason="", data=b"404 page not found", headers={}))
        return {"resources": [{"name": name} for name in self.groups[path]]}


async def test_missing_kinds_are_neither_watched_nor_asked_for_again() -> None:
    server = Server()
    kinds = Discovery(server)  # type: ignore[arg-type]
    assert await kinds.look() == set()
    assert kinds.missing == {"ServiceMonitor", "Prometheus"}
    names = {kind.name for kind in served(kinds.missing)}
    assert {"LLMEndpoint", "Pod", "Role"} <= names
    assert not names & {"ServiceMonitor", "Event"}


async def test_a_group_may_have_other_kinds_only() -> None:
    server = Server()
    server.groups[MONITORS] = ["podmonitors"]
    kinds = Discovery(server)  # type: ignore[arg-type]
    await kinds.look()
    assert kinds.missing == {"ServiceMonitor", "Prometheus"}


async def test_a_kind_that_appears_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_FIRST_PAUSE_SECONDS", 0.001)
    server = Server()
    kinds = Discovery(server)  # type: ignore[arg-type]
    await kinds.look()
    waiting = asyncio.ensure_future(kinds.until_one_appears())
    await eventually(lambda: server.requests >= 10)
    assert not waiting.done()
    server.groups[MONITORS] = ["servicemonitors", "prometheuses"]
    await asyncio.wait_for(waiting, 5)
    assert kinds.missing == frozenset()


async def test_nothing_is_asked_while_no_kind_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_FIRST_PAUSE_SECONDS", 0.0)
    server = Server()
    server.groups[MONITORS] = ["servicemonitors", "prometheuses"]
    kinds = Discovery(server)  # type: ignore[arg-type]
    await kinds.look()
    before = server.requests
    waiting = asyncio.ensure_future(kinds.until_one_appears())
    for _ in range(100):
        await asyncio.sleep(0)
    assert server.requests == before
    # A refused write shows that the kind is missing. The kind then appears again.
    kinds.lost("ServiceMonitor")
    assert kinds.missing == {"ServiceMonitor"}
    await asyncio.wait_for(waiting, 5)
