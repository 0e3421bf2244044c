"""Chunked coding: the borders of chunks, and reads that are one chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.wire.http1.chunked import ChunkedFraming, content_of, is_one_chunk


def chunk(content: bytes, size: bytes = b"%x") -> bytes:
    return size % len(content) + b"\r\n" + content + b"\r\n"


@pytest.mark.parametrize("length", [*range(1, 300), 4080, 4081])
@pytest.mark.parametrize("size", [b"%x", b"%X"])
def test_a_read_that_is_one_chunk_is_recognized(length: int, size: bytes) -> None:
    read = chunk(b"\n" * length, size)
    assert is_one_chunk(read)
    assert content_of(read) == b"\n" * length


@pytest.mark.parametrize(
    "read",
    [
        b"",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        chunk(b"a") + b"0\r\n\r\n",
        chunk(b"a") + chunk(b"b"),
        chunk(b"a" * 20)[:-1],
        chunk(b"a" * 20)[1:],
        b"1;x=y\r\na\r\n",
        b"01\r\na\r\n",
        b"1\na\r\n",
        b"1\r\na\n\n",
        chunk(b"a" * 5000),
    ],
)
def test_any_other_read_is_not_one_chunk(read: bytes) -> None:
    assert not is_one_chunk(read)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.data())
def test_between_two_chunks_is_only_where_a_chunk_begins(contents: list[bytes], data: st.DataObject) -> None:
    body = b"".join(map(chunk, contents))
    borders = {sum(len(chunk(content)) for content in contents[:count]) for count in range(len(contents) + 1)}
    end = data.draw(st.integers(min_value=0, max_value=len(body)))
    cut = data.draw(st.integers(min_value=0, max_value=end))
    framing = ChunkedFraming()
    for read in (body[:cut], body[cut:end]):
        framing.feed(read, len(read))
    assert framing.is_between == (end in borders)


def test_after_the_last_chunk_no_other_one_begins() -> None:
    framing = ChunkedFraming()
    framing.feed(b"0\r\n", 3)
    assert not framing.is_between
