"""Fuzzer for HTTP: damaged requests and responses, read by our readers and by an independent parser (h11).

    python tests/support/wire/wirefuzz.py --seconds 600    # longer than the tests; writes findings to the corpus

Each case is read twice: by a reader alone, and by the whole data path without sockets. A second is enough
for thousands of cases. Cases are made from the corpus (`support/wire/corpus.py`).
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import h11

from llmendpoint_common.process.errors import ProtocolError
from llmendpoint_common.wire.http1.request_reader import RequestHead, RequestReader
from llmendpoint_common.wire.http1.response_reader import ResponseHead, ResponseReader

if __name__ == "__main__":
    # Only pytest puts the folder of the tests on the path.
    sys.path.insert(0, str(Path(__file__).parents[2]))

from support.wire.corpus import CORPUS, corpus, split
from support.wire.data_path import DataPath

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_TOKENS = (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"0", b";", b",", b"chunked", b"Content-Length: 5\r\n", b"\x00",
           b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"HTTP/1.0", b"HTTP/1.1 100 Continue\r\n\r\n",
           b"0\r\n\r\n", b"1\r\na\r\n", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", b"\xff", b"+", b"_", b"-1")  # fmt: skip


class FindingError(Exception):
    """Our result for a case differs from that of h11, or from our result for the same bytes in other pieces."""


def requests_in(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return method, target and body of every complete request that h11 reads, up to its first error."""
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
    """Return the final statuses of the responses to a client. Raises FindingError if they are not valid HTTP."""
    statuses: list[int] = []
    rest = data
    for _ in range(count + 1):
        # If a packet ends in a stray line end, part of it can be forwarded. Clients ignore it (RFC 9112, 2.2).
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
            raise FindingError(f"the client got bytes that are not HTTP: {error}: {rest[:200]!r}") from error
        rest = connection.trailing_data[0]
    raise FindingError(f"{len(statuses)} answers to {count} requests")


class RequestRecorder:
    """Records the complete requests that a reader reads."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, bytes]] = []
        self.failed = False
        self._head: RequestHead | None = None
        self._body = b""

    def request_head(self, head: RequestHead) -> None:
        self._head, self._body = head, b""

    def request_body(self, data: bytes) -> None:
        self._body += data

    def request_end(self, trailers: bytes) -> None:
        assert self._head is not None
        self.requests.append((self._head.method, self._head.target, self._body))

    def read(self, pieces: Iterable[bytes]) -> RequestRecorder:
        reader = RequestReader(self)
        try:
            for piece in pieces:
                reader.feed(piece)
                while reader.unread:
                    reader.feed(b"")
        except ProtocolError:
            self.failed = True
        return self


class AnswerRecorder:
    """Records the response that a reader reads. `status` is 0 if it is incomplete."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.calls: list[str] = []

    def interim(self, head: bytes) -> None:
        self.calls.append("interim")

    def response_head(self, head: ResponseHead) -> None:
        self.calls.append("head")
        self._status = head.status

    def response_head_alone(self) -> None:
        """Ignore the call, because it depends on the split."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        self.body += b"".join(pieces)

    def response_end(self, *, reusable: bool) -> None:
        self.calls.append("end")
        self.status = self._status

    def response_failed(self, error: ProtocolError) -> None:
        self.calls.append("failed")

    def read(self, pieces: Iterable[bytes]) -> AnswerRecorder:
        reader = ResponseReader(lambda: None)
        reader.expect(self)
        for piece in pieces:
            reader.feed(piece)
        reader.eof()
        return self


def read_requests(data: bytes, cuts: Iterable[int]) -> list[tuple[bytes, bytes, bytes]]:
    """Return the complete requests that our reader reads.

    Raises FindingError if they depend on the split or h11 reads others.
    """
    whole, cut = RequestRecorder().read([data]), RequestRecorder().read(split(data, cuts))
    if (whole.requests, whole.failed) != (cut.requests, cut.failed):
        raise FindingError(f"whole: {whole.requests!r}, failed: {whole.failed}; cut: {cut.requests!r}, {cut.failed}")
    for ours, theirs in zip(whole.requests, requests_in(data), strict=False):
        if ours[0] == b"CONNECT":
            break
        if ours != theirs:
            raise FindingError(f"read {ours!r}, but h11 reads {theirs!r}")
    return whole.requests


def read_answer(data: bytes, cuts: Iterable[int]) -> list[str]:
    """Return the calls of our reader for a response.

    Raises FindingError if they depend on the split or h11 reads another response.
    """
    whole, cut = AnswerRecorder().read([data]), AnswerRecorder().read(split(data, cuts))
    for one in (whole, cut):
        if one.calls.count("end") + one.calls.count("failed") != 1:
            raise FindingError(f"an answer ended in {one.calls!r}")
    # Extra bytes after a response make it fail only if they arrive together with its end.
    if whole.status and (whole.status, whole.body) != (cut.status, cut.body):
        raise FindingError(f"whole: {whole.calls!r} {whole.body!r}; cut: {cut.calls!r} {cut.body!r}")
    if whole.status and (whole.status, whole.body) != (theirs := answer_in(data)):
        raise FindingError(f"read {whole.status} {whole.body!r}, but h11 reads {theirs!r}")
    return whole.calls


def answer_in(data: bytes) -> tuple[int, bytes]:
    """Return status and body of the response that h11 reads, if the connection ends after the bytes."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
    except h11.RemoteProtocolError as error:
        return 0, str(error).encode()
    return status, body


def try_requests(data: bytes, cuts: Iterable[int]) -> list[int]:
    """Send bytes as a client, and return the statuses of the responses.

    Raises FindingError if the upstream got other requests than h11 reads.
    """
    path = DataPath()
    for piece in split(data, cuts):
        if not path.wire.closed:
            path.client.data_received(piece)
    forwarded: list[tuple[bytes, bytes, bytes]] = []
    for connection, wire in path.upstreams:  # grows as answers let pipelined requests begin
        seen = requests_in(wire.written)
        if len(seen) > 1 or (seen and wire.written.count(b"\r\nHost: 127.0.0.1:1\r\n") != 1):
            raise FindingError(f"one exchange became {len(seen)} requests: {wire.written[:300]!r}")
        if seen:
            forwarded += seen
            if not wire.closed:
                connection.data_received(FINE)
        elif wire.written and not wire.written.startswith(tuple(b"%b " % m for m in _METHODS)):
            raise FindingError(f"an upstream got bytes that are not a request: {wire.written[:200]!r}")
    expected = [request for request in requests_in(data) if request[0] != b"CONNECT"]
    for ours, theirs in zip(forwarded, expected, strict=False):
        if ours != theirs and b"://" not in theirs[1]:
            raise FindingError(f"forwarded {ours!r}, but h11 reads {theirs!r}")
    if path.metrics.total("meter_failures"):
        raise FindingError("the meter failed")
    return answers_in(path.wire.written, len(path.upstreams) + 17, ended=path.wire.closed)


def try_answer(data: bytes, cuts: Iterable[int]) -> list[int]:
    """Send bytes as an upstream, and return the statuses that the client got.

    Raises FindingError if the client got invalid HTTP.
    """
    path = DataPath()
    body = b'{"model":"m"}'
    path.client.data_received(b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    connection, wire = path.upstreams[0]
    for piece in split(data, cuts):
        if not wire.closed:
            connection.data_received(piece)
    if not wire.closed:
        connection.eof_received()
        connection.connection_lost(None)
    if path.metrics.total("meter_failures"):
        raise FindingError("the meter failed")
    statuses = answers_in(path.wire.written, 1, ended=path.wire.closed)
    if len(statuses) != 1 or path.metrics.total("requests") != 1:
        raise FindingError(f"one request had {statuses} as answers: {path.wire.written[:300]!r}")
    return statuses


_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"ACL", b"BIND", b"CHECKOUT",
            b"COPY", b"LINK", b"LOCK", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MOVE", b"M-SEARCH", b"NOTIFY", b"PROPPATCH",
            b"PURGE", b"QUERY", b"REBIND", b"REPORT", b"SEARCH", b"SOURCE", b"SUBSCRIBE", b"UNBIND", b"UNLINK", b"UNLOCK",
            b"UNSUBSCRIBE", b"CONNECT", b"PRI")  # fmt: skip


def damage(data: bytes, source: random.Random) -> bytes:
    """Return the bytes with a few of them changed, removed or doubled, or with tokens of the grammar inserted."""
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


class Attempt(NamedTuple):
    """A way to read a case, and the folder of the corpus for its cases."""

    kind: str
    run: Callable[[bytes, Iterable[int]], object]


ATTEMPTS = {
    "request reader": Attempt("requests", read_requests),
    "response reader": Attempt("answers", read_answer),
    "requests": Attempt("requests", try_requests),
    "answers": Attempt("answers", try_answer),
}


def damaged(kind: str, seed: int) -> tuple[bytes, list[int]]:
    """Return the case for a seed: bytes, and the positions at which they are split."""
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
    # The proxy logs a warning for each refused response.
    logging.disable(logging.CRITICAL)
    seed, found, deadline = options.seed, 0, time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        for name, attempt in ATTEMPTS.items():
            data, cuts = damaged(attempt.kind, seed)
            try:
                attempt.run(data, cuts)
            except Exception as error:
                found += 1
                path = CORPUS / attempt.kind / f"found-{seed}.http"
                path.write_bytes(data)
                print(f"{path.name}: {name}: {type(error).__name__}: {error}")
        seed += 1
    print(f"{len(ATTEMPTS) * (seed - options.seed)} cases, {found} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
