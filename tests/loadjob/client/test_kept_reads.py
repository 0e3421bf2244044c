"""Content that is kept and read later: times, tokens, text and errors are the same as if it were read on arrival."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.loadrun import ErrorClass
from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.http1.response_reader import ResponseReader
from llmendpoint_loadjob.client.answer import Answer, Reader
from llmendpoint_loadjob.client.redaction import Redactor
from llmendpoint_loadjob.client.silences import SilenceWatch
from llmendpoint_loadjob.result.timings import Sample

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
COUNT = 12


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(number: int) -> bytes:
    return chunk(b'data: {"choices":[{"delta":{"content":"w%d "}}]}\n\n' % number)


LAST = chunk(
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":12}}\n\ndata: [DONE]\n\n'
)
TOKENS = [token(number) for number in range(COUNT)]
WHOLE = HEAD + b"".join(TOKENS) + LAST + END


@dataclass
class Connection:
    """An answer, and the reader of its connection. Each read arrives one second after the one before."""

    may_keep: bool
    now: float = 0.0
    sample: Sample = field(default_factory=lambda: Sample("id", "q", "Math", 0.0))
    ended: list[bool] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.silences = SilenceWatch()
        self.silences.hold_until = 1e9 if self.may_keep else 0.0
        reader = Reader(lambda: self.now, Operation.OPENAI_CHAT, Redactor([]), self.silences)
        self.answer = Answer(reader, self.sample, keep_text=True)
        self.answer.on_end = self.ended.append
        self.reader = ResponseReader(self._close)
        self.reader.expect(self.answer)

    def _close(self) -> None:
        self.closed += 1

    def receive(self, *reads: bytes) -> Connection:
        """Receive reads of the socket, as a connection does."""
        for read in reads:
            self.now += 1.0
            if self.ended or not self.answer.keep(read):
                self.reader.feed(read)
        return self

    def complete(self) -> Sample:
        """Complete the answer."""
        self.now += 100.0
        self.answer.complete()
        return self.sample


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    reads, at, turn = [], 0, 0
    while at < len(data):
        reads.append(data[at : at + sizes[turn % len(sizes)]])
        at += len(reads[-1])
        turn += 1
    return reads


@pytest.mark.parametrize(
    "reads",
    [
        [HEAD, *TOKENS, LAST + END],
        [HEAD + TOKENS[0], *TOKENS[1:], LAST, END],
        [HEAD, *(TOKENS[i] + TOKENS[i + 1] for i in range(0, COUNT, 2)), LAST + END],
        [HEAD, *TOKENS[:3], TOKENS[3] + TOKENS[4][:20], TOKENS[4][20:], *TOKENS[5:], LAST + END],
        [HEAD, *TOKENS[:3], TOKENS[3] + TOKENS[4][:1], TOKENS[4][1:], *TOKENS[5:], LAST + END],
        [HEAD, *TOKENS, LAST, b"0\r\nX-Trailer: y\r\n", b"\r\n"],
    ],
    ids=["each", "with-head", "two", "cut", "size-cut", "trailer"],
)
def test_each_content_has_the_time_of_its_read(reads: list[bytes]) -> None:
    kept, read = Connection(may_keep=True).receive(*reads), Connection(may_keep=False).receive(*reads)
    assert kept.ended == read.ended == [True]
    assert kept.complete() == read.complete()
    assert kept.sample.error is None
    assert (kept.sample.chunks, kept.sample.output_tokens) == (COUNT, 12)
    assert kept.answer.text == read.answer.text == "".join(f"w{number} " for number in range(COUNT))
    assert kept.sample.ended == len(reads)


@given(st.lists(st.integers(min_value=1, max_value=120), min_size=1, max_size=20))
def test_any_other_split_gives_the_same_too(sizes: list[int]) -> None:
    reads = cut(WHOLE, sizes)
    kept, read = Connection(may_keep=True).receive(*reads), Connection(may_keep=False).receive(*reads)
    assert kept.complete() == read.complete()
    assert kept.answer.text == read.answer.text


def test_the_connection_is_free_before_the_content_is_read() -> None:
    connection = Connection(may_keep=True).receive(HEAD, *TOKENS, LAST + END)
    assert connection.ended == [True]
    assert connection.sample.chunks == 0
    assert connection.complete().chunks == COUNT


def test_kept_content_of_a_response_that_is_cut_off_counts() -> None:
    connection = Connection(may_keep=True).receive(HEAD, *TOKENS[:5])
    connection.reader.eof()
    assert connection.ended == [False]
    assert connection.complete().error is ErrorClass.TRUNCATED
    assert connection.sample.chunks == 5
    assert (connection.sample.first, connection.sample.last, connection.sample.ended) == (2.0, 6.0, 6.0)


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nabcdefgh\r\n", LAST + END + b"HTTP/1.1 200 OK\r\n\r\n"])
def test_bytes_that_are_not_chunks_fail_when_they_arrive(rest: bytes) -> None:
    connection = Connection(may_keep=True).receive(HEAD, *TOKENS[:5], rest)
    assert connection.ended == [False]
    assert connection.closed == 1
    assert connection.sample.error is ErrorClass.INVALID_BODY
    assert connection.sample.chunks >= 5


def test_kept_content_can_be_the_begin_of_a_silence() -> None:
    found: list[tuple[float, float]] = []
    connection = Connection(may_keep=False)
    silences = connection.silences
    silences.on_silence = lambda begin, end: found.append((begin, end))
    silences.settle = connection.answer.read_kept
    silences.sent(1.99)
    silences.sent(1.99)
    connection.receive(HEAD, TOKENS[0])
    silences.heard(2.01, "another response")
    for at, read in ((2.02, TOKENS[1]), (2.115, TOKENS[2]), (2.13, TOKENS[3]), (2.5, TOKENS[4])):
        connection.now = at - 1.0
        connection.receive(read)
    silences.heard(2.51, "another response")
    # Between 2.02 and 2.115 is less than a silence, although 2.02 was only read after it.
    assert found == [(2.13, 2.5)]


def test_a_chunk_in_the_middle_of_another_one_is_content() -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    inner = chunk(b"data: 7\n\n")
    outer = b'data: {"choices":[{"delta":{"content":"' + b"a" * 30
    whole = chunk(outer + inner + b'"}}]}\n\n')
    reads = [HEAD, chunk(event), whole[: len(outer) + 4], inner, whole[len(outer) + 4 + len(inner) :], LAST + END]
    kept, read = Connection(may_keep=True).receive(*reads), Connection(may_keep=False).receive(*reads)
    assert kept.complete() == read.complete()
    assert kept.answer.text == read.answer.text
