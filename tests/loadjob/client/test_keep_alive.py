"""Connections that are kept: reused, opened in advance, closed by the server while idle, and aborted."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.result.timings import Sample
from support.load.load_clients import PROMPT, Clients, ask, new_sample
from support.waiting import eventually
from support.wire.fault_server import (
    ANSWER,
    Exchange,
    answering,
    chunk,
    fault_server,
    head,
    ollama,
    ollama_done,
    plain,
)  # fmt: skip

_DONE = ollama("a") + ollama_done()


async def stall(exchange: Exchange) -> None:
    """Begin an answer and never end it."""
    await exchange.send(head() + chunk(ollama("a")))
    await asyncio.Event().wait()


async def test_a_connection_is_used_again(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        errors = [(await ask(client)).error for _ in range(5)]
        assert (errors, server.connections) == ([None] * 5, 1)


@pytest.mark.parametrize(
    "answer",
    [
        head("200 OK", "application/x-ndjson", "Connection: close", framing=str(len(_DONE))) + _DONE,
        head(framing=str(len(_DONE))).replace(b"HTTP/1.1", b"HTTP/1.0") + _DONE,
        head(framing="until-close") + _DONE,
    ],
    ids=["Connection: close", "HTTP/1.0", "until close"],
)
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(client_of: Clients, answer: bytes) -> None:
    async with fault_server(answering(answer, close=True)) as server:
        client = client_of(server.url)
        assert [(await ask(client)).error for _ in range(2)] == [None, None]
        assert (server.connections, client.sent_again) == (2, 0)


async def test_a_connection_that_the_server_closed_is_noticed(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        await ask(client)
        server.close_all()
        await eventually(lambda: server.open_connections == 0)
        second = await ask(client)
    assert second.error is None
    assert second.connect is not None


class ClosesWithTheRequest:
    """Closes connections as another request arrives on them, which a client cannot tell from a close while idle."""

    def __init__(self, *, with_reset: bool = False, after: bytes = b"") -> None:
        self.with_reset = with_reset
        self.after = after

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.nth == 1:
            await exchange.send(ANSWER)
            return
        await exchange.send(self.after)
        if self.with_reset:
            exchange.reset()
        else:
            exchange.close()


@pytest.mark.parametrize("with_reset", [False, True])
async def test_a_request_whose_idle_connection_is_closed_goes_out_again(client_of: Clients, with_reset: bool) -> None:
    async with fault_server(ClosesWithTheRequest(with_reset=with_reset)) as server:
        client = client_of(server.url)
        first, second = await ask(client), await ask(client)
        assert (first.error, second.error, second.output_tokens) == (None, None, 2)
        assert (first.was_sent_again, second.was_sent_again) == (False, True)
        assert (len(server.received), server.connections, client.sent_again) == (3, 2, 1)
    assert second.connect is not None
    assert second.sent <= second.ended - second.connect


async def test_a_request_goes_out_again_only_once(client_of: Clients) -> None:
    async def behave(exchange: Exchange) -> None:
        if exchange.connection == exchange.nth == 1:
            await exchange.send(ANSWER)
        else:
            exchange.close()

    async with fault_server(behave) as server:
        client = client_of(server.url)
        await ask(client)
        second = await ask(client)
        assert second.error is ErrorClass.RESET
        assert len(server.received) == 3


@pytest.mark.parametrize(
    "after", [b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n", head(), head() + chunk(ollama("a"))]
)
async def test_a_request_is_never_repeated_after_a_byte_of_its_answer(client_of: Clients, after: bytes) -> None:
    async with fault_server(ClosesWithTheRequest(after=after)) as server:
        client = client_of(server.url)
        await ask(client)
        second = await ask(client)
        assert second.error in (ErrorClass.RESET, ErrorClass.TRUNCATED)
        assert len(server.received) == 2


@pytest.mark.parametrize("seconds", [0.8, 1.2])
async def test_a_server_that_works_on_a_request_before_it_closes_has_failed(client_of: Clients, seconds: float) -> None:
    async def behave(exchange: Exchange) -> None:
        if exchange.nth == 1:
            await exchange.send(ANSWER)
        else:
            await asyncio.sleep(seconds)
            exchange.close()

    async with fault_server(behave) as server:
        client = client_of(server.url)
        await ask(client)
        assert (await ask(client)).error is ErrorClass.RESET
        assert len(server.received) == 2


async def test_a_server_that_closes_idle_connections_causes_no_error(client_of: Clients) -> None:
    """The requests come just as the server's limit ends, so that some of them meet a connection that is closing."""
    async with fault_server(answering(ANSWER), idle_seconds=0.02) as server:
        client = client_of(server.url)
        errors = []
        for index in range(60):
            errors.append((await ask(client)).error)
            await asyncio.sleep(0.018 + 0.0001 * (index % 40))
    assert errors == [None] * 60


# ---- connections that are opened in advance


async def test_connections_are_opened_before_the_first_request(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        seconds = await client.open(100)
        await eventually(lambda: server.connections == 100)
        samples = await asyncio.gather(*(ask(client) for _ in range(100)))
        assert (len(seconds), server.connections, len(server.received)) == (100, 100, 100)
    assert {sample.error for sample in samples} == {None}
    assert {sample.connect for sample in samples} == {None}
    assert min(seconds) > 0


async def test_opened_connections_that_the_server_closes_are_replaced(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        await client.open(10)
        await eventually(lambda: server.open_connections == 10)
        server.close_all()
        assert {(await ask(client)).error for _ in range(10)} == {None}


async def test_opening_ends_if_the_server_is_dead(client_of: Clients) -> None:
    assert await client_of("http://127.0.0.1:1").open(1000) == []


# ---- ends


async def streams(client: Client, count: int) -> tuple[list[asyncio.Task[str | None]], list[Sample]]:
    samples = [new_sample() for _ in range(count)]
    return [asyncio.create_task(client.send(PROMPT, sample)) for sample in samples], samples


async def test_abort_ends_all_streams_immediately_as_unfinished(client_of: Clients) -> None:
    async with fault_server(stall) as server:
        client = client_of(server.url)
        tasks, samples = await streams(client, 50)
        await eventually(lambda: all(sample.status for sample in samples))
        assert client.in_flight == 50
        client.abort()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert client.in_flight == 0
        await eventually(lambda: server.is_abandoned)
    assert {sample.error for sample in samples} == {ErrorClass.UNFINISHED}
    assert all(sample.first for sample in samples)
    assert all(sample.ended > sample.sent and sample.retry_after is None for sample in samples)


async def test_abort_ends_requests_that_are_connecting(client_of: Clients) -> None:
    async with fault_server(stall) as server:
        # The server does not speak TLS, so the handshake never ends.
        client = client_of(server.url.replace("http", "https"))
        tasks, samples = await streams(client, 3)
        await eventually(lambda: server.connections == 3)
        client.abort()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert [sample.error for sample in samples] == [ErrorClass.UNFINISHED] * 3


async def test_a_client_works_after_abort(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        client.abort()
        assert (await ask(client)).error is None


async def test_a_cancelled_request_ends_on_the_server_too(client_of: Clients) -> None:
    async with fault_server(stall) as server:
        client = client_of(server.url)
        tasks, samples = await streams(client, 1)
        await eventually(lambda: samples[0].first is not None)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert client.in_flight == 0
        await eventually(lambda: server.is_abandoned)


async def test_a_dead_server_costs_no_time_of_the_processor(client_of: Clients) -> None:
    """Users that wait as they are told send some ten requests in a second, and not thousands."""
    client = client_of("http://127.0.0.1:1")
    counts: list[int] = []

    async def user() -> None:
        count, end = 0, time.perf_counter() + 1.0
        while time.perf_counter() < end:
            sample = await ask(client)
            count += 1
            assert sample.retry_after is not None
            await asyncio.sleep(sample.retry_after)
        counts.append(count)

    before = time.process_time()
    await asyncio.gather(*(user() for _ in range(20)))
    assert max(counts) <= 8
    assert time.process_time() - before < 0.8


async def test_an_answer_without_a_body_leaves_the_connection_usable(client_of: Clients) -> None:
    async with fault_server(answering(plain("503 Service Unavailable", b""))) as server:
        client = client_of(server.url)
        errors = [(await ask(client)).error for _ in range(3)]
        assert (errors, server.connections) == ([ErrorClass.UNAVAILABLE] * 3, 1)
