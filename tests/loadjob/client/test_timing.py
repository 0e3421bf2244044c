"""What a request's sample contains: times, tokens and durations, and what is unknown."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from llmendpoint_common.contracts.loadrun import Api, ErrorClass
from support.load.load_clients import PROMPT, Clients, ask
from support.tls import issue
from support.wire.fault_server import (
    ANSWER,
    DONE,
    END,
    NDJSON,
    SSE,
    answering,
    chunk,
    event,
    fault_server,
    head,
    ollama,
    ollama_done,
    openai,
    openai_usage,
    plain,
    relay,
)  # fmt: skip

_DELAY = 0.3
_CHAT = Api.OPENAI_CHAT


async def test_the_time_of_a_request_begins_before_its_connection_is_opened(client_of: Clients, tmp_path: Path) -> None:
    """A slow TLS handshake belongs to the server, and not to the client's own wait."""
    certificate, key = issue(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with fault_server(answering(ANSWER), tls=context) as server, relay(server.port, _DELAY) as late:
        client = client_of(f"https://127.0.0.1:{late.port}", cacert=certificate)
        sample = await ask(client)
        client.close()
    assert sample.error is None
    assert sample.connect is not None
    assert sample.ttft is not None
    assert sample.connect >= _DELAY
    assert sample.ttft >= sample.connect
    assert sample.request_latency >= sample.ttft
    assert sample.queue_delay < _DELAY


async def test_an_open_connection_has_no_time_for_connecting(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(server.url)
        first, second = await ask(client), await ask(client)
    assert first.connect is not None
    assert second.connect is None
    assert second.ttft is not None


async def test_a_failure_to_connect_has_the_time_that_it_took(client_of: Clients) -> None:
    before = time.perf_counter()
    sample = await ask(client_of("http://127.0.0.1:1"))
    assert before <= sample.sent <= sample.ended
    assert sample.connect is None


def streamed(api: Api, *parts: bytes) -> bytes:
    return head(content_type=SSE if api is _CHAT else NDJSON) + b"".join(map(chunk, parts)) + END


async def test_thinking_comes_before_the_first_output(client_of: Clients) -> None:
    bodies = {
        Api.OLLAMA_CHAT: [ollama(message={"thinking": "hm"}), ollama("a"), ollama_done()],
        _CHAT: [openai(delta={"reasoning_content": "hm"}), openai("a"), openai_usage(), DONE],
    }
    for api, (thought, output, *end) in bodies.items():
        first = head(content_type=SSE if api is _CHAT else NDJSON) + chunk(thought)
        async with fault_server(answering(first, chunk(output), b"".join(map(chunk, end)) + END, pause=0.3)) as server:
            sample = await ask(client_of(server.url, api))
        assert sample.first is not None
        assert sample.first_output is not None
        assert sample.first_output > sample.first
        assert sample.ttfo == sample.first_output - sample.sent
        assert sample.is_spread
        assert len(sample.gaps) == 1


async def test_each_piece_has_the_time_at_which_it_arrived(client_of: Clients) -> None:
    """Pieces that follow each other quickly are decoded together, later than they arrive."""
    bodies = {
        Api.OLLAMA_CHAT: [*[ollama("a")] * 10, ollama_done()],
        _CHAT: [*[openai("a")] * 10, openai_usage() + DONE],
    }
    for api, parts in bodies.items():
        first, *others = map(chunk, parts)
        begin = head(content_type=SSE if api is _CHAT else NDJSON) + first
        async with fault_server(answering(begin, *others, END, pause=0.01)) as server:
            sample = await ask(client_of(server.url, api))
        assert sample.error is None
        assert sample.chunks == 10
        assert len(sample.gaps) == 9
        assert min(sample.gaps) >= 0.002
        assert sample.first is not None
        assert sample.last is not None
        assert sum(sample.gaps) == pytest.approx(sample.last - sample.first)
        assert sample.ended > sample.last + 0.01


async def test_an_answer_that_only_thinks_has_no_first_output(client_of: Clients) -> None:
    async with fault_server(
        answering(streamed(Api.OLLAMA_CHAT, ollama(message={"thinking": "hm"}), ollama_done()))
    ) as one:
        sample = await ask(client_of(one.url))
    assert sample.ttft is not None
    assert sample.ttfo is None


@pytest.mark.parametrize("part", [{"tool_calls": [{"function": {"name": "f"}}]}, {"refusal": "no"},
                                  {"function_call": {"name": "f", "arguments": "{}"}}])  # fmt: skip
async def test_tool_calls_and_refusals_are_content(client_of: Clients, part: dict[str, object]) -> None:
    async with fault_server(answering(streamed(_CHAT, openai(delta=part), openai_usage(), DONE))) as server:
        sample = await ask(client_of(server.url, _CHAT))
    assert (sample.error, sample.chunks) == (None, 1)
    assert sample.ttfo is not None


async def test_the_first_message_of_a_stream_that_has_only_a_role_is_not_content(client_of: Clients) -> None:
    first = head(content_type=SSE) + chunk(openai(delta={"role": "assistant", "content": ""}))
    rest = chunk(openai("a")) + chunk(openai_usage()) + chunk(DONE) + END
    async with fault_server(answering(first, rest, pause=0.1)) as server:
        sample = await ask(client_of(server.url, _CHAT))
    assert sample.ttft is not None
    assert sample.ttft >= 0.1


@pytest.mark.parametrize("size", [1, 50, pytest.param(20_000, marks=pytest.mark.alone)])
@pytest.mark.parametrize("api", [Api.OLLAMA_CHAT, _CHAT])
async def test_the_time_per_token_of_an_answer_in_one_piece_is_unknown(client_of: Clients, api: Api, size: int) -> None:
    """A large piece arrives with several reads of the socket."""
    contents = [openai("a")] * size if api is _CHAT else [ollama("a")] * size
    end = [openai_usage(size), DONE] if api is _CHAT else [ollama_done(size)]
    async with fault_server(answering(streamed(api, *contents, *end))) as server:
        sample = await ask(client_of(server.url, api))
    assert (sample.error, sample.chunks, sample.output_tokens) == (None, size, size)
    assert sample.ttft is not None
    assert sample.tpot is None
    assert not sample.gaps


async def test_the_time_per_token_is_known_if_the_content_comes_over_time(client_of: Clients) -> None:
    parts = [head() + chunk(ollama("a")), *[chunk(ollama("a"))] * 9, chunk(ollama_done(10)) + END]
    async with fault_server(answering(*parts, pause=0.05)) as server:
        sample = await ask(client_of(server.url))
    assert sample.first is not None
    assert sample.last is not None
    assert sample.tpot == pytest.approx((sample.last - sample.first) / 9)
    # On a busy machine, two pieces can arrive together.
    assert 1 <= len(sample.gaps) <= 9
    assert sum(sample.gaps) == pytest.approx(sample.last - sample.first)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", [Api.OLLAMA_CHAT, _CHAT])
async def test_an_answer_that_is_one_object_has_no_time_to_first_token(
    client_of: Clients, api: Api, stream: bool
) -> None:
    """Also if a stream was requested: some servers ignore it."""
    body = ollama_done(50, message={"content": "w " * 50})
    if api is _CHAT:
        choice = b'{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}'
        body = b'{"model":"m","choices":[%b],"usage":{"prompt_tokens":7,"completion_tokens":50}}' % choice
    async with fault_server(answering(plain("200 OK", body))) as server:
        sample = await ask(client_of(server.url, api, stream=stream))
    assert (sample.error, sample.output_tokens, sample.chunks) == (None, 50, 1)
    assert (sample.ttft, sample.ttfo, sample.tpot) == (None, None, None)
    assert sample.request_latency > 0


@pytest.mark.parametrize(
    ("api", "parts"),
    [
        (_CHAT, [openai("a"), openai("b", "stop"), DONE]),
        (_CHAT, [openai("a"), openai_usage(None), DONE]),
        (_CHAT, [openai("a"), openai_usage(0), DONE]),
        (Api.OLLAMA_CHAT, [ollama("a"), ollama_done(None)]),
    ],
)
async def test_tokens_that_the_server_does_not_report_are_unknown(
    client_of: Clients, api: Api, parts: list[bytes]
) -> None:
    async with fault_server(answering(streamed(api, *parts))) as server:
        sample = await ask(client_of(server.url, api))
    assert sample.error is None
    assert not sample.has_usage
    assert sample.tpot is None


@pytest.mark.parametrize("tokens", [0, 20])
@pytest.mark.parametrize("api", [_CHAT, Api.OLLAMA_CHAT])
async def test_an_answer_without_content_is_a_failure_whatever_its_tokens(
    client_of: Clients, api: Api, tokens: int
) -> None:
    parts = [ollama_done(tokens)] if api is Api.OLLAMA_CHAT else [openai(None, "length"), openai_usage(tokens), DONE]
    async with fault_server(answering(streamed(api, *parts))) as server:
        sample = await ask(client_of(server.url, api))
    assert (sample.error, sample.status, sample.chunks, sample.ttft) == (ErrorClass.EMPTY, 200, 0, None)
    assert sample.detail.startswith("the response has no content, thinking or tool call")
    assert ("although the server counted 20 output tokens" in sample.detail) == (tokens > 0)


async def test_cached_tokens_are_known_if_the_server_reports_them(client_of: Clients) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 5}}
    for usage, expected in ((details, 5), ({}, None)):
        body = streamed(_CHAT, openai("a"), openai_usage(2, usage=usage), DONE)
        async with fault_server(answering(body)) as server:
            sample = await ask(client_of(server.url, _CHAT))
        assert (sample.input_tokens, sample.cached_tokens) == (7, expected)


async def test_the_durations_of_ollama_are_kept(client_of: Clients) -> None:
    durations = {"total_duration": 4_000_000_000, "load_duration": 1_000_000_000, "prompt_eval_duration": 500_000_000,
                 "eval_duration": 2_000_000_000}  # fmt: skip
    async with fault_server(answering(streamed(Api.OLLAMA_CHAT, ollama("a"), ollama_done(2, **durations)))) as server:
        sample = await ask(client_of(server.url))
    parts = (sample.server_total, sample.server_load, sample.server_prefill, sample.server_decode)
    assert parts == pytest.approx((4.0, 1.0, 0.5, 2.0))
    async with fault_server(answering(ANSWER)) as server:
        sample = await ask(client_of(server.url))
    assert (sample.server_total, sample.server_load) == (None, None)


@pytest.mark.parametrize(
    ("api", "last"),
    [
        (Api.OLLAMA_CHAT, ollama_done(10**15)),
        (Api.OLLAMA_CHAT, ollama_done(50_000_000)),
        (Api.OLLAMA_CHAT, ollama_done(2, prompt_eval_cached_count=10**15)),
        (_CHAT, openai_usage(2, usage={"prompt_tokens": 10**15})),
    ],
)
async def test_token_counts_that_cannot_be_true_are_left_out(client_of: Clients, api: Api, last: bytes) -> None:
    parts = [ollama("a"), last] if api is Api.OLLAMA_CHAT else [openai("a"), last, DONE]
    async with fault_server(answering(streamed(api, *parts))) as server:
        sample = await ask(client_of(server.url, api))
    assert (sample.error, sample.has_usage, sample.has_implausible_usage) == (None, False, True)
    assert (sample.input_tokens, sample.output_tokens, sample.cached_tokens) == (0, 0, None)


async def test_thinking_that_the_server_hides_is_counted_if_it_had_the_time_for_it(client_of: Clients) -> None:
    first, rest = head(content_type=SSE) + chunk(openai("a")), chunk(openai_usage(5000)) + chunk(DONE) + END
    async with fault_server(answering(first, rest, pause=0.2)) as server:
        sample = await ask(client_of(server.url, _CHAT))
    assert (sample.output_tokens, sample.has_usage, sample.has_implausible_usage) == (5000, True, False)


async def test_the_text_is_returned_if_it_is_asked_for(client_of: Clients) -> None:
    bodies = {
        Api.OLLAMA_CHAT: [ollama(message={"thinking": "hm"}), ollama("día "), ollama("🙂"), ollama_done()],
        Api.OLLAMA_GENERATE: [b'{"response":"d\\u00eda ","done":false}\n', '{"response":"🙂","done":false}\n'.encode(),
                              b'{"response":"","done":true,"eval_count":2}\n'],
        _CHAT: [openai(delta={"reasoning": "hm"}), openai("día "), openai("🙂"), openai_usage(), DONE],
    }  # fmt: skip
    for api, parts in bodies.items():
        async with fault_server(answering(streamed(api, *parts))) as server:
            client = client_of(server.url, api)
            sample = await ask(client)
            assert await client.send(PROMPT, sample) is None
            assert await client.send(PROMPT, sample, keep_text=True) == "día 🙂"


async def test_the_text_of_one_object_is_returned(client_of: Clients) -> None:
    body = b'{"choices":[{"message":{"content":"one"},"finish_reason":"stop"},{"message":{"content":"two"}}]}'
    async with fault_server(answering(plain("200 OK", body))) as server:
        client = client_of(server.url, _CHAT, stream=False)
        assert await client.send(PROMPT, await ask(client), keep_text=True) == "one"


async def test_an_event_stream_is_read_whatever_its_media_type(client_of: Clients) -> None:
    for media_type in (None, "Text/Event-Stream; charset=utf-8", "text/plain", "application/octet-stream"):
        parts = [head(content_type=media_type) + chunk(openai("a")), chunk(event({"choices": None, "usage": {
            "prompt_tokens": 7.0, "completion_tokens": 3.0}})) + chunk(b"data: [DONE] ") + END]  # fmt: skip
        async with fault_server(answering(*parts, pause=0.01)) as server:
            sample = await ask(client_of(server.url, _CHAT))
        assert (sample.error, sample.detail, sample.output_tokens) == (None, "", 3), media_type
        assert sample.ttft is not None
