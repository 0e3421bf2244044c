"""Damaged requests and answers against both parsers, beside an independent one (h11): no socket, thousands a second.

    python tests/support/wirefuzz.py --seconds 600    # for longer than the tests do; writes what it finds into the corpus

The corpus, `tests/sidecar/corpus/`, holds one request or answer a file, as it comes from the wire. A file named
`refused-…` must be refused; any other is only damaged. FindingError are kept in it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import h11

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.proxy.server import Proxy
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

CORPUS = Path(__file__).parents[1] / "sidecar" / "corpus"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_TOKENS = (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"0", b";", b",", b"chunked", b"Content-Length: 5\r\n", b"\x00",
           b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"HTTP/1.0", b"HTTP/1.1 100 Continue\r\n\r\n",
           b"0\r\n\r\n", b"1\r\na\r\n", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", b"\xff", b"+", b"_", b"-1")  # fmt: skip


class FindingError(Exception):
    """What must never happen, happened."""


class Wire:
    """A transport that keeps what is written; it never blocks, and is closed when asked."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing is read from it anyway."""

    resume_reading = pause_reading


class Bench:
    """One client's connection, and upstream connections that are always there."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        model_labels = ModelLabels(lambda: None)
        model_labels.list(["m:latest"])
        self.meter = Meter(self.metrics, model_labels, time.monotonic)
        admission = Admission(self.meter.in_flight, Keyring([]), time.monotonic)
        admission.configure(SidecarConfig())
        self.proxy = Proxy(Address("127.0.0.1", 1), Timeouts(), self.meter.begin, admission, time.monotonic)
        self.upstreams: list[tuple[UpstreamConnection, Wire]] = []
        self.proxy.pool.acquire = self._acquire  # type: ignore[method-assign]
        self.wire = Wire()
        self.client = self.proxy.new_connection()
        self.client.connection_made(self.wire)  # type: ignore[arg-type]

    def _acquire(self) -> UpstreamConnection:
        connection, wire = UpstreamConnection(lambda _: None), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        self.upstreams.append((connection, wire))
        return connection


def requests_in(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return method, target and body of every whole request that h11 sees, until it sees none or an error."""
    found: list[tuple[bytes, bytes, bytes]] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    try:
        connection.receive_data(data)
        while True:
            head, body = connection.next_event(), b""
            if not isinstance(head, h11.Request):
                return found
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                return found
            found.append((head.method, head.target, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found


def answers_in(data: bytes, count: int, *, ended: bool) -> list[int]:
    """Return the final statuses of the answers in what a client got; FindingError where they are no HTTP."""
    statuses: list[int] = []
    rest = data
    for _ in range(count + 1):
        # Part of a stray line end may slip through where a packet ends in it; clients pass over it (RFC 9112, 2.2).
        if not rest.strip(b"\r\n"):
            return statuses
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        try:
            connection.receive_data(rest)
            if ended:
                connection.receive_data(b"")
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                    return statuses
                if isinstance(event, h11.Response):
                    statuses.append(event.status_code)
        except h11.RemoteProtocolError as error:
            if ended and "peer" in str(error):
                return statuses  # cut, and seen to be cut
            raise FindingError(f"the client got what is no HTTP: {error}: {rest[:200]!r}") from error
        rest = connection.trailing_data[0]
    raise FindingError(f"{len(statuses)} answers to {count} requests")


def try_requests(data: bytes, cuts: Iterable[int]) -> list[int]:
    """Send bytes as a client; return the statuses of what came back. FindingError where an upstream saw other requests."""
    bench = Bench()
    for piece in split(data, cuts):
        if not bench.wire.closed:
            bench.client.data_received(piece)
    forwarded: list[tuple[bytes, bytes, bytes]] = []
    for connection, wire in bench.upstreams:  # grows as answers let pipelined requests begin
        seen = requests_in(wire.written)
        if len(seen) > 1 or (seen and wire.written.count(b"\r\nHost: 127.0.0.1:1\r\n") != 1):
            raise FindingError(f"one exchange became {len(seen)} requests: {wire.written[:300]!r}")
        if seen:
            forwarded += seen
            if not wire.closed:
                connection.data_received(FINE)
        elif wire.written and not wire.written.startswith(tuple(b"%b " % m for m in _METHODS)):
            raise FindingError(f"an upstream got what is no request: {wire.written[:200]!r}")
    expected = [request for request in requests_in(data) if request[0] != b"CONNECT"]
    for ours, theirs in zip(forwarded, expected, strict=False):
        if ours != theirs and b"://" not in theirs[1]:
            raise FindingError(f"forwarded {ours!r}, where h11 reads {theirs!r}")
    if bench.metrics.total("meter_failures"):
        raise FindingError("the meter failed")
    return answers_in(bench.wire.written, len(bench.upstreams) + 17, ended=bench.wire.closed)


def try_answer(data: bytes, cuts: Iterable[int]) -> list[int]:
    """Send bytes as an upstream; return the statuses of what the client got. FindingError where that is no HTTP."""
    bench = Bench()
    body = b'{"model":"m"}'
    bench.client.data_received(
        b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    connection, wire = bench.upstreams[0]
    for piece in split(data, cuts):
        if not wire.closed:
            connection.data_received(piece)
    if not wire.closed:
        connection.eof_received()
        connection.connection_lost(None)
    if bench.metrics.total("meter_failures"):
        raise FindingError("the meter failed")
    statuses = answers_in(bench.wire.written, 1, ended=bench.wire.closed)
    if len(statuses) != 1 or bench.metrics.total("requests") != 1:
        raise FindingError(f"one request had {statuses} as answers: {bench.wire.written[:300]!r}")
    return statuses


_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"ACL", b"BIND", b"CHECKOUT",
            b"COPY", b"LINK", b"LOCK", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MOVE", b"M-SEARCH", b"NOTIFY", b"PROPPATCH",
            b"PURGE", b"QUERY", b"REBIND", b"REPORT", b"SEARCH", b"SOURCE", b"SUBSCRIBE", b"UNBIND", b"UNLINK", b"UNLOCK",
            b"UNSUBSCRIBE", b"CONNECT", b"PRI")  # fmt: skip


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut bytes at positions."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def damage(data: bytes, source: random.Random) -> bytes:
    """Return the bytes with a few of them changed, left out, doubled, or with tokens of the grammar put between."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 3, 5))):
        at = source.randrange(len(changed) + 1)
        kind = source.randrange(5)
        if kind == 0 and changed:
            changed[at % len(changed)] = source.randrange(256)
        elif kind == 1:
            changed[at:at] = source.choice(_TOKENS)
        elif kind == 2:
            del changed[at : at + source.randrange(1, 8)]
        elif kind == 3:
            changed[at:at] = changed[at : at + source.randrange(1, 60)]
        else:
            token = source.choice(_TOKENS)
            changed[at : at + len(token)] = token
    return bytes(changed)


def corpus(kind: str) -> dict[str, bytes]:
    """Return the files of `requests` or `answers`, by name."""
    return {path.stem: path.read_bytes() for path in sorted((CORPUS / kind).glob("*.http"))}


ATTEMPTS: dict[str, Callable[[bytes, Iterable[int]], list[int]]] = {"requests": try_requests, "answers": try_answer}


def damaged(kind: str, seed: int) -> tuple[bytes, list[int]]:
    """Return the case of a seed: bytes, and where they are cut."""
    source = random.Random(seed)
    texts = [text for text in corpus_cache(kind) if len(text) < 20_000]
    data = damage(source.choice(texts), source)
    if kind == "requests" and source.random() < 0.3:
        data += source.choice(texts)
    return data, [source.randrange(len(data) + 1) for _ in range(source.choice((0, 0, 1, 2, 5)))]


_cache: dict[str, list[bytes]] = {}


def corpus_cache(kind: str) -> list[bytes]:
    if kind not in _cache:
        _cache[kind] = list(corpus(kind).values())
    return _cache[kind]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seed, found, deadline = options.seed, 0, time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        for kind, attempt in ATTEMPTS.items():
            data, cuts = damaged(kind, seed)
            try:
                attempt(data, cuts)
            except Exception as error:
                found += 1
                path = CORPUS / kind / f"found-{seed}.http"
                path.write_bytes(data)
                print(f"{path.name}: {type(error).__name__}: {error}")
        seed += 1
    print(f"{2 * (seed - options.seed)} cases, {found} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
