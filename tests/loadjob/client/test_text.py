"""The text of a response, which is decoded many pieces at a time."""

from __future__ import annotations

import json

import pytest

from llmendpoint_loadjob.client.text import TextReader

#: Enough for several decodings before the end.
WORDS = [f"wörd{number} " for number in range(2000)]


def ndjson() -> bytes:
    return "".join(json.dumps({"message": {"content": word}}, ensure_ascii=False) + "\n" for word in WORDS).encode()


def events() -> bytes:
    lines = (json.dumps({"choices": [{"delta": {"content": word}}]}, ensure_ascii=False) for word in WORDS)
    return "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize("body", [ndjson(), events()], ids=["ndjson", "events"])
@pytest.mark.parametrize("size", [7, 100, 4096, 1 << 20])
def test_the_text_does_not_depend_on_how_its_bytes_arrive(body: bytes, size: int) -> None:
    reader = TextReader()
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        reader.feed([piece])
    assert reader.text() == "".join(WORDS)
    assert reader.text() == "".join(WORDS)


def test_a_last_line_without_an_end_is_read() -> None:
    reader = TextReader()
    reader.feed([b'{"response": "a"}\n{"response"', b': "b"}'])
    assert reader.text() == "ab"
