"""When a server is silent: no content arrives, although at least two requests are in flight."""

from __future__ import annotations

import asyncio

from llmendpoint_loadjob.client.silences import MIN_SILENCE, SilenceWatch
from support.load.load_clients import Clients, ask
from support.wire.fault_server import END, Exchange, chunk, fault_server, head, ollama, ollama_done


def watch() -> tuple[SilenceWatch, list[tuple[float, float]]]:
    silences: list[tuple[float, float]] = []
    return SilenceWatch(lambda begin, end: silences.append((begin, end))), silences


def test_a_silence_lasts_from_one_content_to_the_next() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(1.0)
    silence.heard(1.05, "a")
    silence.heard(3.0, "b")
    silence.heard(3.01, "a")
    silence.ended(5.0, "a")
    silence.ended(5.01, "b")
    assert found == [(1.05, 3.0), (3.01, 5.0)]


def test_one_slow_request_is_not_a_silence() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.heard(10.0, "a")
    silence.ended(20.0, "a")
    assert found == []


def test_two_slow_requests_that_do_not_go_on_together_are_not_a_silence() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(0.0)
    for index in range(10):
        silence.heard(5.0 + index, "a")
    silence.ended(15.0, "b")
    assert found == []


def test_a_silence_begins_when_the_second_request_is_in_flight() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(10.0)
    silence.sent(11.0)
    silence.heard(12.0, "a")
    silence.heard(12.0, "b")
    assert found == [(10.0, 12.0)]


def test_requests_that_are_cut_at_the_end_of_a_run_are_not_a_silence() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(0.0)
    silence.cut()
    silence.cut()
    silence.sent(20.0)
    silence.sent(20.0)
    silence.heard(20.5, "a")
    silence.heard(20.5, "b")
    assert found == [(20.0, 20.5)]


def test_content_from_before_its_end_does_not_confirm_a_silence() -> None:
    silence, found = watch()
    for _ in range(3):
        silence.sent(9.9)
    silence.heard(10.0, "a")
    silence.heard(10.15, "b")
    # It was kept, and read only now.
    silence.heard(10.0, "c")
    assert found == []
    silence.heard(10.16, "c")
    assert found == [(10.0, 10.15)]


def test_a_silence_ends_if_requests_fail() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(0.0)
    silence.ended(2.0, "a")
    silence.ended(2.0, "b")
    assert found == [(0.0, 2.0)]


def test_what_was_kept_is_passed_on_before_a_silence_is_noted() -> None:
    silence, found = watch()
    kept = [(1.05, "a"), (1.03, "b")]

    def settle() -> None:
        while kept:
            silence.heard(*kept.pop())

    silence.settle = settle
    silence.sent(0.0)
    silence.sent(1.0)
    silence.heard(1.04, "a")
    silence.heard(3.0, "b")
    silence.heard(3.01, "a")
    assert found == [(1.05, 3.0)]


def test_a_silence_that_ended_with_what_was_kept_is_not_one() -> None:
    silence, found = watch()
    silence.sent(0.0)
    silence.sent(1.0)
    silence.settle = lambda: silence.heard(1.09, "a")
    silence.heard(1.1, "b")
    silence.heard(1.11, "a")
    assert found == []


def test_content_may_be_kept_for_a_short_time_after_known_content_only() -> None:
    silence, _ = watch()
    assert silence.hold_until == 0.0
    silence.sent(0.0)
    silence.sent(0.0)
    silence.heard(0.05, "a")
    assert 0.05 < silence.hold_until < 0.05 + MIN_SILENCE / 2
    # The response that continues next decides whether this was a silence.
    silence.heard(1.0, "a")
    assert silence.hold_until == 0.0
    silence.heard(1.01, "b")
    assert silence.hold_until > 1.01


async def test_the_client_notes_content_and_ends_of_responses_and_no_heads(client_of: Clients) -> None:
    """Two responses: their heads come immediately, and their content after 0.4 s and another 0.3 s."""
    arrived = asyncio.Barrier(2)

    async def serve(exchange: Exchange) -> None:
        await arrived.wait()
        await exchange.send(head(), pause=0.4)
        await exchange.send(chunk(ollama("a")), pause=0.3)
        await exchange.send(chunk(ollama("b")), chunk(ollama_done()), END)

    async with fault_server(serve) as server:
        client = client_of(server.url)
        silences: list[float] = []
        client.silences.on_silence = lambda begin, end: silences.append(end - begin)
        await asyncio.gather(ask(client), ask(client))
        client.close()
    assert len(silences) == 2
    assert silences[0] >= 0.35
    assert silences[1] >= 0.25


async def test_requests_that_the_client_aborts_are_not_a_silence(client_of: Clients) -> None:
    waited = asyncio.Barrier(3)

    async def serve(exchange: Exchange) -> None:
        await exchange.send(head(), pause=0.3)
        await waited.wait()
        await asyncio.Event().wait()

    async with fault_server(serve) as server:
        client = client_of(server.url)
        silences: list[float] = []
        client.silences.on_silence = lambda begin, end: silences.append(end - begin)
        requests = asyncio.gather(ask(client), ask(client))
        await waited.wait()
        client.abort()
        await requests
        client.close()
    assert silences == []
