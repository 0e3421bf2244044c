"""The reader of request bodies: cost, memory, slices, doubt, and requested usage. `test_go_answers` has its results."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from collections.abc import Callable

import aiohttp
import httpx
import pytest
import zstandard

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.json_fields import STEP_BYTES
from llmendpoint_common.wire.request_body import (
    MAX_REQUEST_BODY_BYTES,
    SLICE_BYTES,
    BodyReader,
    RequestFacts,
    read_request_body,
)
from llmendpoint_common.wire.usage_filter import ask_for_usage

MIB = 1024 * 1024
TYPE = b"multipart/form-data; boundary=x"
MODEL = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def read_in_slices(reader: BodyReader, body: bytes) -> RequestFacts:
    """Feed a whole body, and read it in slices."""
    reader.feed(body)
    while reader.work(SLICE_BYTES):
        pass
    return reader.finish()


def repeated(unit: bytes, head: bytes = b'{"model":"tiny","x":"', tail: bytes = b'"}', size: int = 4 * MIB) -> bytes:
    return head + unit * (size // len(unit)) + tail


#: JSON on which decoders are slow, need much memory or fail, and the model in it.
HEAVY = {
    "brackets": repeated(b"[", b'{"model":"tiny","x":', b""),
    "deep": repeated(b"[", b'{"x":', b"") + repeated(b"]", b"", b',"model":"tiny"}'),
    "many small arrays": repeated(b"[],", b'{"model":"tiny","x":[', b"0]}"),
    "nested arrays as values": repeated(b',"":[[]]', b'{"model":"tiny"', b"}"),
    "numbers": repeated(b"0,", b'{"model":"tiny","x":[', b"0]}"),
    "empty names": repeated(b',"":""', b'{"model":"tiny"', b"}"),
    "many names": b'{"model":"tiny"' + b"".join(b',"%d":%d' % (number, number) for number in range(200_000)) + b"}",
    "backslashes": repeated(b"\\\\"),
    "escaped quotes": repeated(b'\\"'),
    "surrogates": repeated(b"\\ud83d"),
    "one long string": repeated(b"a"),
    "space": repeated(b" ", b'{"model":', b'"tiny"}'),
    "names in other objects": repeated(b'{"model":0},', b'{"model":"tiny","x":[', b"0]}"),
    "names in a string": repeated(b'\\"model\\":'),
    "names as values": repeated(b'"model",', b'{"model":"tiny","x":[', b"0]}"),
}


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
def test_a_heavy_body_is_read_in_slices_that_do_not_block_an_event_loop(body: bytes) -> None:
    reader = BodyReader()
    reader.feed(body)
    longest = 0.0
    more = True
    while more:
        begun = time.thread_time()
        more = reader.work(SLICE_BYTES)
        longest = max(longest, time.thread_time() - begun)
    assert reader.finish().model == "tiny"
    assert longest < 0.05  # At most 7 ms on an idle machine.


@pytest.mark.parametrize("name", ["brackets", "many names", "empty names", "backslashes", "one long string"])
def test_the_cost_of_a_body_is_linear(name: str) -> None:
    def seconds(body: bytes) -> float:
        begun = time.thread_time()
        read_in_slices(BodyReader(), body)
        return time.thread_time() - begun

    body = HEAVY[name]
    quarter = min(seconds(body[: len(body) // 4]) for _ in range(3))
    assert seconds(body) < 4 * quarter * 3


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
def test_the_memory_of_a_reader_does_not_depend_on_the_body(body: bytes) -> None:
    reader = BodyReader()
    reader.feed(body[:MIB])
    tracemalloc.start()
    while reader.work(SLICE_BYTES):
        pass
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 64 * 1024
    assert peak < 2 * MIB


def test_a_body_in_tiny_pieces_takes_no_more_memory_than_its_bytes() -> None:
    reader = BodyReader()
    body = HEAVY["numbers"][: MIB // 4 + 1] + b"]}"
    tracemalloc.start()
    for start in range(0, len(body), 2):
        reader.feed(body[start : start + 2])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(body)
    assert reader.finish().model == "tiny"


@pytest.mark.parametrize("depth", [999, 1001, 9_000, 1_000_000])
def test_depth_does_not_matter(depth: int) -> None:
    body = b'{"x":' + b"[" * depth + b"]" * depth + b',"model":"tiny"}'
    assert read_request_body(body).model == "tiny"


@pytest.mark.parametrize("gap", range(STEP_BYTES - 24, STEP_BYTES + 4))
def test_a_field_across_two_steps_is_found(gap: int) -> None:
    body = b'{"x":"' + b"a" * gap + b'","\\u006dodel":"t\\u0069ny","stream":true}'
    reader = BodyReader(usage=True)
    facts = read_in_slices(reader, body + b" " * STEP_BYTES * 4)
    assert facts == RequestFacts("tiny", True, len(body) - 1)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"model":"' + b"x" * 1100 + b'"}', "longer than 1024 bytes"),
        # Ollama ignores the scheme of a name, however long it is.
        (b'{"model":"' + b"x" * 70_000 + b'://registry.ollama.ai/library/tiny"}', "longer than 1024 bytes"),
        (b'{"model":"a","MODEL":"b"}', "two spellings with different values"),
        (b'{"x":1' + b',"model":"tiny"' * 5000 + b"}", "repeats a field too often"),
    ],
)
def test_a_body_whose_model_is_not_certain_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(RequestBodyError, match=sentence):
        read_in_slices(BodyReader(), body)


@pytest.mark.parametrize(
    ("body", "names_model"),
    [
        (b'{"model":"tiny"}', True),
        (b'{"MODEL":5}', True),
        (b'{"model":""}', True),
        (b'{"model":null}', False),
        (b'{"prompt":"x"}', False),
        (b'{"x":{"model":"tiny"}}', False),
        (b'[{"model":"tiny"}]', False),
        (b"", False),
        (b"not json", False),
        (b"\xff" * 100, False),
    ],
)
def test_a_body_names_a_model_if_it_has_the_field(body: bytes, names_model: bool) -> None:
    assert read_request_body(body).names_model is names_model
    assert read_in_slices(BodyReader(), body + b" " * STEP_BYTES).names_model is names_model


def test_a_body_that_is_not_compressed_has_no_maximum_size() -> None:
    reader = BodyReader()
    reader.feed(b'{"x":"')
    piece = b"a" * MIB
    for _ in range(MAX_REQUEST_BODY_BYTES // MIB + 1):
        reader.feed(piece)
        while reader.work(SLICE_BYTES):
            pass
    reader.feed(b'","model":"tiny"}')
    assert reader.finish().model == "tiny"


# ---- usage


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"tiny","stream":true}',
        b' {"model": "tiny", "stream": true, "stream_options": {"include_usage": false, "x": 1} } trailing',
        b'{"model":"tiny","Stream":true,"x":"}"}',
        HEAVY["many names"][:-1] + b',"stream":true}',
    ],
)
def test_usage_is_requested_without_changing_anything_else(body: bytes) -> None:
    changed = ask_for_usage(body, read_request_body(body, usage=True))
    assert changed is not None
    added = b',"stream_options":{"include_usage":true}'
    assert changed.replace(added, b"", 1) == body
    fields, _ = json.JSONDecoder().raw_decode(changed.decode().strip())
    assert fields["stream_options"]["include_usage"] is True


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"tiny"}',
        b'{"model":"tiny","stream":false}',
        b'{"model":"tiny","stream":true,"stream_options":{"include_usage":true}}',
        b'{"model":"tiny","stream":true,"stream_options":{"INCLUDE_USAGE":true}}',
        b'{"model":"tiny","stream":true,"stream_options":{"x":"' + b"a" * 2000 + b'"},"y":"' + b"a" * 70_000 + b'"}',
        b'{"model":"tiny","stream":true',
        b"[]",
    ],
)
def test_a_body_that_asks_for_no_stream_or_for_its_usage_is_not_changed(body: bytes) -> None:
    assert ask_for_usage(body, read_request_body(body, usage=True)) is None


def test_a_compressed_body_is_not_changed() -> None:
    body = zstandard.compress(b'{"model":"tiny","stream":true}')
    assert read_request_body(body, coding=b"zstd", usage=True) == RequestFacts("tiny", True, -1)


# ---- codings


def test_a_small_compressed_body_that_is_large_is_read_in_slices() -> None:
    body = zstandard.compress(repeated(b"a", size=32 * MIB))
    assert len(body) < STEP_BYTES
    reader = BodyReader(coding=b"zstd")
    reader.feed(body)
    slices = 0
    while reader.work(SLICE_BYTES):
        slices += 1
    assert slices > 400
    assert reader.finish().model == "tiny"


@pytest.mark.parametrize(
    ("body", "coding", "sentence"),
    [
        (b"{}", b"br", "only zstd is supported"),
        (b"{}", b"zstd, zstd", "only zstd is supported"),
        (b"{}", b"zstd", "not valid zstd"),
        (zstandard.compress(b'{"model":"tiny"}')[:-1], b"zstd", "not valid zstd"),
        (zstandard.compress(b"[" * (MAX_REQUEST_BODY_BYTES + 1)), b"zstd", "larger than 64 MiB"),
        (zstandard.compress(b"") * 1000, b"zstd", "more than 100 frames"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_refused(body: bytes, coding: bytes, sentence: str) -> None:
    with pytest.raises(RequestBodyError, match=sentence):
        read_in_slices(BodyReader(coding=coding), body)


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity "])
def test_a_body_without_a_coding_is_read_as_it_is(coding: bytes) -> None:
    assert read_request_body(b'{"model":"tiny"}', coding=coding).model == "tiny"


# ---- forms

HEAVY_FORMS = {
    "line ends": FILE + b"\r\n" * 2 * MIB,
    "beginnings of a boundary": FILE + b"\r\n--" * MIB,
    "other boundaries": FILE + b"\r\n--y" * MIB,
    "parts": (FILE + b"\r\n") * 50_000,
    "nested forms": b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=y%d\r\n\r\n--y%d\r\n'
        % (number, number)
        for number in range(2000)
    ),
    "a long header": b"--x\r\nContent-Disposition: form-data; " + b"a=b; " * MIB,
}


@pytest.mark.parametrize("body", HEAVY_FORMS.values(), ids=HEAVY_FORMS)
def test_a_heavy_form_is_read_in_slices_or_refused(body: bytes) -> None:
    reader = BodyReader(TYPE, form=True)
    reader.feed(body + b"\r\n" + MODEL + b"tiny\r\n--x--\r\n")
    longest = 0.0
    more = True
    while more:
        begun = time.thread_time()
        more = reader.work(SLICE_BYTES)
        longest = max(longest, time.thread_time() - begun)
    assert longest < 0.05  # At most 2 ms on an idle machine.
    with contextlib.suppress(RequestBodyError):
        assert reader.finish().model == "tiny"


async def aiohttp_form() -> tuple[bytes, bytes]:
    data = aiohttp.FormData({"model": "tiny", "language": "de"})
    data.add_field("file", b"RIFF\r\n--", filename="t\u00f6n.wav", content_type="audio/wav")
    payload = data()
    assert isinstance(payload, aiohttp.MultipartWriter)

    class Sink(aiohttp.abc.AbstractStreamWriter):
        body = b""

        async def write(self, chunk: bytes | bytearray | memoryview) -> None:
            self.body += bytes(chunk)

        async def write_eof(self, chunk: bytes = b"") -> None: ...
        async def drain(self) -> None: ...
        def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...
        def enable_chunking(self) -> None: ...
        async def write_headers(self, status_line: str, headers: object) -> None: ...

    sink = Sink()
    await payload.write(sink)
    return sink.body, payload.headers["Content-Type"].encode()


def httpx_form() -> tuple[bytes, bytes]:
    request = httpx.Request(
        "POST", "http://x/", data={"model": "tiny"}, files={"file": ('t\u00f6n".wav', b"RIFF\r\n--", "audio/wav")}
    )
    return request.read(), request.headers["content-type"].encode()


def browser_form() -> tuple[bytes, bytes]:
    boundary = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
    return (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a%%22b.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--%b--\r\n'
        % (boundary, boundary, boundary),
        b"multipart/form-data; boundary=" + boundary,
    )


def curl_form() -> tuple[bytes, bytes]:
    boundary = b"------------------------d74496d66958873e"
    return (
        b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nRIFF\r\n--%b--\r\n" % (boundary, boundary, boundary),
        b"multipart/form-data; boundary=" + boundary,
    )


@pytest.mark.parametrize("write", [httpx_form, browser_form, curl_form])
@pytest.mark.parametrize("form", [True, None])
def test_forms_of_clients_are_read(write: Callable[[], tuple[bytes, bytes]], form: bool | None) -> None:
    body, content_type = write()
    assert read_request_body(body, content_type, form=form) == RequestFacts("tiny", True)


@pytest.mark.parametrize("form", [True, None])
def test_a_compressed_form_is_read_in_pieces_of_any_size(form: bool | None) -> None:
    """A decompressor that needs more input returns nothing, which is not the end of the form."""
    body = zstandard.compress(FILE + b"RIFF\r\n" + MODEL + b"tiny\r\n--x--\r\n")
    for size in (1, 30, len(body)):
        reader = BodyReader(TYPE, b"zstd", form=form)
        for start in range(0, len(body), size):
            reader.feed(body[start : start + size])
        assert reader.finish() == RequestFacts("tiny", True)


async def test_forms_of_aiohttp_are_read() -> None:
    body, content_type = await aiohttp_form()
    assert read_request_body(body, content_type, form=True) == RequestFacts("tiny", True)


# ---- routes that are not known

URLENCODED = b"application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "facts"),
    [
        (b'{"model":"tiny"}', b"application/json", RequestFacts("tiny", True)),
        (b'{"model":"tiny"}', b"", RequestFacts("tiny", True)),
        (b'{"model":"tiny"}', URLENCODED, RequestFacts("tiny", True)),  # as curl sends it
        (b"a=b&model=ti%6Ey", URLENCODED, RequestFacts("tiny", True)),
        (b"a=b", URLENCODED, RequestFacts()),
        (b'{"x":"' + b"b" * 90_000 + b'","model":"tiny"}', URLENCODED, RequestFacts("tiny", True)),
        (MODEL + b"tiny\r\n--x--\r\n", TYPE, RequestFacts("tiny", True)),
        (FILE + b"\r\n--x--\r\n", TYPE, RequestFacts()),
        (MODEL + b"tiny\r\n--x--\r\n", b"application/json", RequestFacts()),
        (b"binary \x00\xff", b"application/octet-stream", RequestFacts()),
    ],
)
def test_a_body_of_an_unknown_route_is_read_as_json_and_as_the_form_that_it_declares(
    body: bytes, content_type: bytes, facts: RequestFacts
) -> None:
    assert read_request_body(body, content_type, form=None) == facts


@pytest.mark.parametrize(
    ("body", "content_type", "query"),
    [
        (b'{"model":"a","x":"\r\n' + MODEL + b'b\r\n--x--\r\n"}', TYPE, b""),
        (b'{"model":"a","x":"&model=b&"}', URLENCODED, b""),
        (b"model=a&model=b", URLENCODED, b""),
        (b"a=" + b"b" * 90_000 + b"&model=b", URLENCODED, b""),
        (b"a=b", URLENCODED, b"model=b"),
        (MODEL + b"tiny\r\n--x--\r\n", TYPE, b"x=1&m%6fdel=b"),
        (b'{"model":"tiny"}', TYPE, b""),
    ],
)
def test_a_body_of_an_unknown_route_that_can_be_read_in_two_ways_is_refused(
    body: bytes, content_type: bytes, query: bytes
) -> None:
    with pytest.raises(RequestBodyError):
        read_request_body(body, content_type, form=None, query=query)


def test_a_known_json_route_ignores_the_content_type_and_the_query() -> None:
    assert read_request_body(b'{"model":"tiny"}', TYPE, query=b"model=b").model == "tiny"
