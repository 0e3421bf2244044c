"""The request reader alone: each line of its state table, and the corpus in every split."""

from __future__ import annotations

import time
from typing import Any

import pytest

from llmendpoint_common.process.errors import BodyError, HeadError, HeadTooLargeError, ProtocolError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import (
    MAX_CHUNKS_PER_CALL,
    MAX_HEADS_PER_CALL,
    RequestHead,
    RequestReader,
    RequestState,
    fault_of,
)
from support.wire.corpus import all_splits, corpus

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Valid HTTP that is answered with an error.
FAULTS = {"refused-tunnel", "refused-no-host", "refused-two-hosts", "refused-target-with-another-host"}


class Recorder:
    """Records the calls of the reader. The pieces of a body are joined."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.heads: list[RequestHead] = []
        self.error: ProtocolError | None = None
        self.reader = RequestReader(self)

    def request_head(self, head: RequestHead) -> None:
        self.heads.append(head)
        self.events.append(("head", head.method, head.target, head.version, head.keep_alive, head.chunked))

    def request_body(self, data: bytes) -> None:
        if self.events[-1][0] != "body":
            self.events.append(("body", b""))
        self.events[-1] = ("body", self.events[-1][1] + data)

    def request_end(self, trailers: bytes) -> None:
        self.events.append(("end", trailers))

    def feed(self, *pieces: bytes) -> None:
        try:
            for piece in pieces:
                self.reader.feed(piece)
        except ProtocolError as error:
            self.error = error

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.events]


def read(*pieces: bytes) -> Recorder:
    recorder = Recorder()
    recorder.feed(*pieces)
    return recorder


def state_of(recorder: Recorder) -> RequestState:
    return recorder.reader.state


@pytest.mark.parametrize("name", corpus("requests"))
def test_a_kept_request_is_the_same_in_every_split(name: str) -> None:
    data = corpus("requests")[name]
    expected = read(data)
    assert ("refused-" in name) == (expected.error is not None or any(map(fault_of, expected.heads)))
    for pieces in all_splits(data):
        recorder = read(*pieces)
        if expected.error is None:
            assert recorder.error is None
            assert recorder.events == expected.events
        else:
            # Bytes of a body before the error may already have been passed on.
            assert type(recorder.error) is type(expected.error)
            assert recorder.heads == expected.heads
            assert state_of(recorder) is RequestState.CLOSED


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_request_that_must_not_be_served_is_read(name: str) -> None:
    recorder = read(corpus("requests")[name])
    assert recorder.error is None
    assert fault_of(recorder.heads[0]) is not None


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://h/api/tags", b"h"),
        (b"http://H:80/", b"h"),
        (b"https://h/", b"h:443"),
        (b"HTTP://h?a=/b", b"H"),
        (b"http://[::1]:8080/", b"[::1]:8080"),
        (b"*", b"h"),
    ],
)
def test_a_target_may_repeat_its_host(target: bytes, host: bytes) -> None:
    (head,) = read(b"OPTIONS %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)).heads
    assert fault_of(head) is None


@pytest.mark.parametrize(
    "target",
    [b"http://other/api/tags", b"http://h:81/", b"http://h:443/", b"http://h@other/", b"http://other@h/",
     b"http://other?h/", b"ftp://h/", b"http://hh/"],
)  # fmt: skip
def test_a_target_that_contradicts_its_host_is_refused(target: bytes) -> None:
    (head,) = read(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target).heads
    fault = fault_of(head)
    assert fault is not None
    assert fault.status == 400


def test_http_1_0_needs_no_host() -> None:
    (head,) = read(b"GET / HTTP/1.0\r\n\r\n").heads
    assert fault_of(head) is None
    assert not head.keep_alive


def test_one_call_reads_a_few_pipelined_requests_and_keeps_the_rest() -> None:
    recorder = read(GET * 40 + POST)
    assert recorder.names.count("end") == MAX_HEADS_PER_CALL == 16
    assert recorder.reader.unread == GET * 24 + POST
    recorder.feed(b"hel", b"lo")
    assert recorder.names.count("end") == 41
    assert recorder.events[-2:] == [("body", b"hello"), ("end", b"")]
    assert recorder.reader.unread == b""


def test_one_call_reads_a_bounded_number_of_chunks_and_keeps_the_rest() -> None:
    recorder = read(CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n" + CHUNKED + b"1\r\nb\r\n0\r\n\r\n" + GET)
    calls = 1
    assert recorder.events[-1] == ("body", b"a" * MAX_CHUNKS_PER_CALL)
    while recorder.reader.unread:
        recorder.feed(b"")
        calls += 1
    assert calls == 3
    assert recorder.events[1] == ("body", b"a" * 10_000)
    assert recorder.names == ["head", "body", "end", "head", "body", "end", "head", "end"]


def test_bytes_that_are_kept_precede_those_that_follow() -> None:
    recorder = read(CHUNKED + b"1\r\na\r\n" * MAX_CHUNKS_PER_CALL + b"1\r", b"\nb\r\n0\r\n\r", b"\n" + GET)
    assert recorder.events[1] == ("body", b"a" * MAX_CHUNKS_PER_CALL + b"b")
    assert recorder.names == ["head", "body", "end", "head", "end"]


def test_a_closed_reader_keeps_nothing() -> None:
    recorder = read(GET * 40)
    recorder.reader.close()
    assert recorder.reader.unread == b""


# ---- the table


def test_start_with_an_empty_line() -> None:
    recorder = read(b"\r\n\r\n")
    assert state_of(recorder) is RequestState.START
    recorder.feed(GET, b"\r\n", GET)
    assert recorder.names == ["head", "end"] * 2


def test_many_empty_lines_take_no_longer_than_other_bytes() -> None:
    """Earlier, each line was removed separately, which copied all bytes after it."""
    began = time.process_time()
    assert state_of(read(b"\r\n" * 500_000)) is RequestState.START
    assert time.process_time() - began < 1


def test_start_to_head_and_its_end_without_a_body() -> None:
    recorder = read(GET[:9])
    assert state_of(recorder) is RequestState.HEAD
    assert recorder.reader.partial_request().target == b"/a"
    recorder.feed(GET[9:])
    assert state_of(recorder) is RequestState.START
    assert recorder.events == [("head", b"GET", b"/a", "1.1", True, False), ("end", b"")]
    assert recorder.reader.partial_request().target == b""


@pytest.mark.parametrize(
    ("head", "pieces", "trailers"),
    [(POST, (b"he", b"llo"), b""), (CHUNKED, (b"3\r\nhel\r\n", b"2\r\nlo\r\n0\r\nX: t\r\n\r\n"), b"X: t\r\n")],
)
def test_body_and_its_end(head: bytes, pieces: tuple[bytes, bytes], trailers: bytes) -> None:
    recorder = read(head, pieces[0])
    assert state_of(recorder) is RequestState.BODY
    assert "end" not in recorder.names
    recorder.feed(pieces[1] + GET)
    assert state_of(recorder) is RequestState.START
    assert recorder.events[1:3] == [("body", b"hello"), ("end", trailers)]
    assert recorder.names[3:] == ["head", "end"]


def test_an_offer_to_upgrade_is_declined_and_its_body_is_read() -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(GET)
    recorder = read(b"POST /b HTTP/1.1\r\nHost: h\r\n" + offer + GET + GET)
    assert recorder.names == ["head", "body", "end", "head", "end"]
    assert recorder.events[1] == ("body", GET)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"NONSENSE\r\n\r\n", HeadError),
        (b"GET / HTTP/2\r\n\r\n", HeadError),
        (b"GET / HTTP/1.1\nHost: h\n\n", HeadError),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * heads.MAX_HEAD_BYTES, HeadTooLargeError),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * heads.MAX_HEAD_BYTES + b"\r\n\r\n", HeadTooLargeError),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * heads.MAX_HEAD_LINES + b"\r\n", HeadTooLargeError),
        (POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), HeadError),
        (CHUNKED + b"x\r\n", BodyError),
        (CHUNKED + b"fffffffffffffffff\r\n", BodyError),
    ],
)
def test_bytes_that_are_invalid_or_ambiguous(data: bytes, kind: type[ProtocolError]) -> None:
    for recorder in (read(data), read(*(data[at : at + 1000] for at in range(0, len(data), 1000)))):
        assert type(recorder.error) is kind
        assert state_of(recorder) is RequestState.CLOSED
        before = list(recorder.events)
        recorder.feed(GET)
        assert recorder.events == before


def test_a_closed_reader_calls_nobody() -> None:
    recorder = read(POST)
    recorder.reader.close()
    recorder.feed(b"hello", GET)
    assert recorder.names == ["head"]


def test_a_handler_that_closes_the_reader_is_called_no_more() -> None:
    class Closer(Recorder):
        def request_head(self, head: RequestHead) -> None:
            super().request_head(head)
            self.reader.close()

    for data in (GET + GET, POST + b"hello" + GET):
        closer = Closer()
        closer.feed(data)
        assert closer.names == ["head"]
        assert state_of(closer) is RequestState.CLOSED


def test_a_failing_handler_is_not_taken_for_bad_bytes() -> None:
    class Failing(Recorder):
        def request_body(self, data: bytes) -> None:
            raise ZeroDivisionError

    failing = Failing()
    with pytest.raises(Exception, match="callback") as caught:
        failing.feed(POST + b"hello")
    assert not isinstance(caught.value, ProtocolError)
    assert isinstance(caught.value.__context__, ZeroDivisionError)
