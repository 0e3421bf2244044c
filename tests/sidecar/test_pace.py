"""How many requests begin in one turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmendpoint_sidecar.proxy.connection import ClientConnection
from llmendpoint_sidecar.proxy.pace import MAX_BEGUN
from support.wire.data_path import DataPath, Wire
from support.wire.wirefuzz import FINE

REQUEST = b"GET /api/version HTTP/1.1\r\nHost: h\r\n\r\n"


class Turns:
    """A data path without sockets, whose turns of the event loop are run by the test."""

    def __init__(self) -> None:
        self.path = DataPath()
        self.pending: list[Callable[[], None]] = []
        self.path.proxy.set_next_turn(self.pending.append)

    def client(self) -> tuple[ClientConnection, Wire]:
        connection, wire = self.path.proxy.new_connection(), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        return connection, wire

    @property
    def forwarded(self) -> int:
        return sum(wire.written.count(b"GET ") for _, wire in self.path.upstreams)

    def run(self) -> None:
        """Run the calls that were requested for the next turn."""
        pending, self.pending[:] = self.pending[:], []
        for call in pending:
            call()


def test_requests_beyond_the_limit_wait_for_the_next_turns() -> None:
    turns = Turns()
    for _ in range(MAX_BEGUN * 2 + 1):
        turns.client()[0].data_received(REQUEST)
    assert turns.forwarded == MAX_BEGUN
    turns.run()
    assert turns.forwarded == MAX_BEGUN * 2
    turns.run()
    assert turns.forwarded == MAX_BEGUN * 2 + 1
    assert not turns.pending


def busy_turns() -> Turns:
    """Return a data path on which the next request waits."""
    turns = Turns()
    for _ in range(MAX_BEGUN):
        turns.client()[0].data_received(REQUEST)
    return turns


def test_the_pieces_of_a_request_keep_their_order() -> None:
    turns = busy_turns()
    client, wire = turns.client()
    client.data_received(REQUEST[:10])
    client.data_received(REQUEST[10:])
    turns.run()
    upstream, _ = turns.path.upstreams[-1]
    upstream.data_received(FINE)
    assert turns.forwarded == MAX_BEGUN + 1
    assert wire.written == FINE


def test_a_body_does_not_wait() -> None:
    turns = Turns()
    client, _ = turns.client()
    client.data_received(b"POST /api/blobs/sha256:00 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
    for _ in range(MAX_BEGUN):
        turns.client()[0].data_received(REQUEST)
    client.data_received(b"body")
    assert turns.path.upstreams[0][1].written.endswith(b"body")


@pytest.mark.parametrize("leave", [ClientConnection.eof_received, lambda client: client.connection_lost(None)])
def test_a_request_that_waits_is_counted_if_its_client_leaves(leave: Callable[[ClientConnection], None]) -> None:
    turns = busy_turns()
    client, _ = turns.client()
    client.data_received(REQUEST)
    leave(client)
    turns.run()
    assert turns.path.metrics.totals_by("requests", "outcome") == {"client_cancelled": 1}


def test_a_drain_does_not_close_a_connection_whose_request_waits() -> None:
    turns = busy_turns()
    client, wire = turns.client()
    client.data_received(REQUEST)
    client.close_if_idle(0.0)
    assert not wire.closed
    turns.run()
    turns.path.upstreams[-1][0].data_received(FINE)
    assert wire.written == FINE


def test_large_requests_do_not_wait_if_memory_is_short() -> None:
    turns = busy_turns()
    head = b"POST /api/blobs/sha256:00 HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"
    for _ in range(2):
        turns.client()[0].data_received(head + b"x" * 3_000_000)
    blobs = [wire for _, wire in turns.path.upstreams if b"/api/blobs/" in wire.written]
    assert len(blobs) == 1
