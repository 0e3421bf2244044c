"""Opening connections to names with several addresses, of which some do not work."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_loadjob.client import dialing
from support.load.load_clients import Clients, ask
from support.waiting import eventually
from support.wire.fault_server import ANSWER, answering, fault_server


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[str]:
    """Let every name resolve to addresses and ports. Returns the list of the queries, which grows."""
    queries: list[str] = []
    rows: list[Any] = []
    for host, port in addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        rows.append((family, socket.SOCK_STREAM, 6, "", (host, port, 0, 0) if ":" in host else (host, port)))

    async def resolve(host: str, port: int) -> list[Any]:
        queries.append(host)
        await asyncio.sleep(0.01)
        return rows

    monkeypatch.setattr(dialing, "resolve", resolve)
    return queries


async def test_an_address_that_refuses_is_passed_over_immediately(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_NEXT_ATTEMPT_SECONDS", 30.0)
    async with fault_server(answering(ANSWER)) as server:
        resolve_to(monkeypatch, ("::1", 1), ("127.0.0.1", 1), ("127.0.0.1", server.port))
        sample = await ask(client_of("http://service.example:80"))
    assert sample.error is None
    assert sample.connect is not None
    assert sample.connect < 30


async def test_an_address_that_says_nothing_costs_a_quarter_of_a_second(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener whose queue is full drops the packets, as a broken route does."""
    deaf = socket.socket(socket.AF_INET6)
    deaf.bind(("::1", 0))
    deaf.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket(socket.AF_INET6)
        filler.setblocking(False)
        filler.connect_ex(deaf.getsockname())
        fillers.append(filler)
    async with fault_server(answering(ANSWER)) as server:
        resolve_to(monkeypatch, ("::1", deaf.getsockname()[1]), ("127.0.0.1", server.port))
        sample = await ask(client_of("http://service.example:80"))
    for each in (deaf, *fillers):
        each.close()
    assert sample.error is None
    assert sample.connect is not None
    assert 0.2 < sample.connect < 2.0


async def test_connections_are_spread_over_the_addresses(client_of: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(answering(ANSWER)) as one, fault_server(answering(ANSWER)) as two:
        resolve_to(monkeypatch, ("127.0.0.1", one.port), ("127.0.0.1", two.port))
        assert len(await client_of("http://service.example:80").open(20)) == 20
        await eventually(lambda: one.connections + two.connections == 20)
        assert one.connections == two.connections


async def test_connections_that_are_opened_together_share_a_query(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fault_server(answering(ANSWER)) as server:
        queries = resolve_to(monkeypatch, ("127.0.0.1", server.port))
        client = client_of("http://service.example:80")
        await asyncio.gather(*(ask(client) for _ in range(50)))
    assert queries == ["service.example"]


async def test_if_no_address_works_the_error_is_that_of_the_first(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, ("127.0.0.1", 1), ("127.0.0.1", 2))
    sample = await ask(client_of("http://service.example:80"))
    assert (sample.error, sample.detail) == (
        ErrorClass.REFUSED, "no connection to service.example:80: Connection refused",
    )  # fmt: skip


async def test_an_address_of_the_other_family_is_used(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER), host="::1") as server:
        assert (await ask(client_of(f"http://[::1]:{server.port}"))).error is None


async def test_a_limit_of_this_machine_is_not_the_fault_of_the_server(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    client = client_of("http://127.0.0.1:1")
    sample = await ask(client)
    monkeypatch.undo()
    assert sample.detail == "this machine cannot open another connection: Too many open files"
    assert client.own_failures == 1
