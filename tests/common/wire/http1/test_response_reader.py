"""The response reader alone: each line of its state table, and the corpus in every split."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.process.errors import BodyError, HeadError, ProtocolError, UpstreamError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.response_reader import ResponseHead, ResponseReader, ResponseState
from support.wire.corpus import all_splits, corpus

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
#: Answers with bytes behind their end. They are refused if these come in one piece with the end; otherwise the answer
#: has ended when they come, and the connection is closed.
SURPLUS = {"two-answers", "found-line-ends-behind"}


class Recorder:
    """Records the calls of the reader. The pieces of a body are joined."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.raw = b""
        self.errors: list[ProtocolError] = []
        self.reader = ResponseReader(lambda: self.events.append("close"))

    def interim(self, head: bytes) -> None:
        self.events.append(("interim", head))

    def response_head(self, head: ResponseHead) -> None:
        self.events.append(("head", head.status, head.raw, head.chunked, head.delimited))

    def response_head_alone(self) -> None:
        """Ignore the call, because it depends on the split."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        self.raw += raw
        if self.events[-1][0] != "body":
            self.events.append(("body", b""))
        self.events[-1] = ("body", self.events[-1][1] + b"".join(pieces))

    def response_end(self, *, reusable: bool) -> None:
        self.events.append(("end", reusable))

    def response_failed(self, error: ProtocolError) -> None:
        self.events.append(("failed", type(error)))
        self.errors.append(error)

    @property
    def names(self) -> list[str]:
        return [event if isinstance(event, str) else event[0] for event in self.events]


def read(pieces: list[bytes], *, to_head: bool = False, eof: bool = True) -> Recorder:
    recorder = Recorder()
    recorder.reader.expect(recorder, to_head=to_head)
    for piece in pieces:
        recorder.reader.feed(piece)
    if eof:
        recorder.reader.eof()
    return recorder


def state_of(recorder: Recorder) -> ResponseState:
    return recorder.reader.state


@pytest.mark.parametrize("name", [name for name in corpus("answers") if name not in SURPLUS])
def test_a_kept_answer_is_the_same_in_every_split(name: str) -> None:
    data = corpus("answers")[name]
    expected = read([data])
    assert expected.names[-1] in ("end", "failed")
    for pieces in all_splits(data) if len(data) < 3000 else all_splits(data)[::37]:
        recorder = read(pieces)
        if expected.names[-1] == "failed":
            # Bytes before the error may already have been passed on.
            assert recorder.names[-2:] == ["close", "failed"]
        else:
            assert (recorder.events, recorder.raw) == (expected.events, expected.raw)


@pytest.mark.parametrize("name", sorted(SURPLUS))
def test_bytes_behind_an_answer_never_become_another_one(name: str) -> None:
    data = corpus("answers")[name]
    assert read([data], eof=False).names == ["head", "close", "failed"]
    for pieces in all_splits(data):
        names = read(pieces, eof=False).names
        assert names.count("head") == 1
        assert names[-2:] in (["close", "failed"], ["end", "close"])


# ---- the table


def test_idle_to_head_and_back() -> None:
    recorder = Recorder()
    assert state_of(recorder) is ResponseState.IDLE
    for _ in range(3):
        recorder.reader.expect(recorder)
        assert state_of(recorder) is ResponseState.HEAD
        recorder.reader.feed(WHOLE)
        assert state_of(recorder) is ResponseState.IDLE
    assert recorder.names == ["head", "body", "end"] * 3
    assert recorder.events[2] == ("end", True)


def test_idle_with_bytes_that_no_request_asked_for() -> None:
    recorder = Recorder()
    recorder.reader.feed(WHOLE)
    assert recorder.events == ["close"]
    assert state_of(recorder) is ResponseState.CLOSED


def test_head_with_interim_heads() -> None:
    recorder = read([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"], eof=False)
    assert state_of(recorder) is ResponseState.HEAD
    recorder.reader.feed(WHOLE)
    assert recorder.names == ["interim", "interim", "head", "body", "end"]


@pytest.mark.parametrize(
    ("head", "to_head"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", True),
        (CHUNKED, True),
    ],
)
def test_head_without_a_body(head: bytes, to_head: bool) -> None:
    recorder = read([head], to_head=to_head, eof=False)
    assert recorder.names == ["head", "end"]
    assert recorder.events[-1] == ("end", True)
    assert state_of(recorder) is ResponseState.IDLE
    surplus = read([head + b"x"], to_head=to_head, eof=False)
    assert surplus.events[-1] == ("end", False)
    assert state_of(surplus) is ResponseState.CLOSED
    # The same connection reads another response with a body.
    recorder.reader.expect(recorder)
    recorder.reader.feed(WHOLE)
    assert recorder.events[-2:] == [("body", b"{}"), ("end", True)]


@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
def test_head_to_body_and_a_cut(head: bytes) -> None:
    recorder = read([head, b"3\r\n"], eof=False)
    assert state_of(recorder) is ResponseState.BODY
    recorder.reader.eof()
    assert recorder.names[-2:] == ["close", "failed"]
    assert isinstance(recorder.errors[0], UpstreamError)
    assert state_of(recorder) is ResponseState.CLOSED


def test_head_to_until_close_and_its_ends() -> None:
    recorder = read([UNTIL_CLOSE, b"hel", b"lo"], eof=False)
    assert state_of(recorder) is ResponseState.UNTIL_CLOSE
    recorder.reader.eof()
    assert recorder.events[1:] == [("body", b"hello"), ("end", False)]
    assert state_of(recorder) is ResponseState.CLOSED
    reset = read([UNTIL_CLOSE, b"hel"], eof=False)
    reset.reader.eof(reset=True)
    assert reset.names == ["head", "body", "close", "failed"]


def test_head_and_eof() -> None:
    for pieces in ([], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 100 Continue\r\n\r\n"]):
        recorder = read(pieces)
        assert recorder.names[-2:] == ["close", "failed"]
        assert isinstance(recorder.errors[0], UpstreamError)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", HeadError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", HeadError),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(heads.MAX_HEAD_BYTES).replace(b"\x00", b"a"), HeadError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * heads.MAX_HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n", HeadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadError),
        (b"HTTP/1.1 001 OK\r\nContent-Length: 0\r\n\r\n", HeadError),
        (CHUNKED + b"z\r\n", BodyError),
        (WHOLE + WHOLE, BodyError),
    ],
)
def test_bytes_that_are_not_http(data: bytes, kind: type[ProtocolError]) -> None:
    recorder = read([data], eof=False)
    assert recorder.names[-2:] == ["close", "failed"]
    assert type(recorder.errors[0]) is kind
    assert state_of(recorder) is ResponseState.CLOSED
    # There are no further calls, whatever bytes follow.
    recorder.reader.feed(WHOLE)
    recorder.reader.eof()
    assert recorder.names.count("failed") == 1


def test_http_1_0_keeps_no_connection() -> None:
    assert read([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"]).events[-1] == ("end", False)


def test_an_answer_to_head_without_a_length_keeps_no_connection() -> None:
    assert read([UNTIL_CLOSE], to_head=True, eof=False).events[-1] == ("end", False)


def test_connection_close_keeps_no_connection() -> None:
    assert read([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"]).events[-1] == ("end", False)


def test_an_abandoned_response_calls_nobody() -> None:
    recorder = read([CHUNKED], eof=False)
    recorder.reader.abandon()
    recorder.reader.feed(b"5\r\nhello\r\n0\r\n\r\n")
    recorder.reader.eof()
    assert recorder.names == ["head"]
    assert state_of(recorder) is ResponseState.CLOSED
