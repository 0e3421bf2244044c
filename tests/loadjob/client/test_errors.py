"""Failed requests: their class, the server's own words without secrets, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from llmendpoint_common.contracts.loadrun import LINE_PATTERN, Api, ErrorClass, advice
from llmendpoint_loadjob.client import dialing
from llmendpoint_loadjob.client.outage import Outage
from llmendpoint_loadjob.client.redaction import Redactor, words_of
from llmendpoint_loadjob.client.retry_after import seconds_of
from llmendpoint_loadjob.dataset.prompts import Prompt
from support.load.load_clients import PROMPT, Clients, ask
from support.tls import issue
from support.wire.fault_server import (
    ANSWER,
    DONE,
    END,
    SSE,
    Exchange,
    answering,
    chunk,
    event,
    fault_server,
    head,
    ollama,
    openai,
    plain,
)  # fmt: skip

_CHAT = Api.OPENAI_CHAT
_KEY = "sk-canary-7f3a91bc"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (plain("404 Not Found", b'{"error":"model \'m\' not found, try pulling it first"}'), ErrorClass.CLIENT_ERROR,
         "HTTP 404: model 'm' not found, try pulling it first"),
        (plain("401 Unauthorized", b'{"error":{"message":"Incorrect API key provided","code":"invalid"}}'),
         ErrorClass.CLIENT_ERROR, "HTTP 401: Incorrect API key provided"),
        (plain("422 Unprocessable Content", b'{"detail":[{"loc":["body","n"],"msg":"not a number","input":"secret"}]}'),
         ErrorClass.CLIENT_ERROR, "HTTP 422: body.n: not a number"),
        (plain("400 Bad Request", b"Client sent an HTTP request to an HTTPS server.\n"), ErrorClass.TLS,
         "HTTP 400: Client sent an HTTP request to an HTTPS server."),
        (plain("500 Internal Server Error", b"<html><style>a{}</style><h1>boom</h1>\r\n</html>"),
         ErrorClass.SERVER_ERROR, "HTTP 500: boom"),
        (plain("502 Bad Gateway", b""), ErrorClass.SERVER_ERROR, "HTTP 502 Bad Gateway"),
        (plain("503 Service Unavailable", b'{"error":"busy"}'), ErrorClass.UNAVAILABLE, "HTTP 503: busy"),
        (plain("429 Too Many Requests", b'{"error":"slow down"}'), ErrorClass.TOO_MANY_REQUESTS, "HTTP 429: slow down"),
        (plain("308 Permanent Redirect", b"", "Location: https://u:p@b.example/api/chat?key=x"), ErrorClass.REDIRECT,
         "HTTP 308 Permanent Redirect, to https://b.example/api/chat"),
        (plain("304 Not Modified", b""), ErrorClass.REDIRECT, "HTTP 304 Not Modified"),
        (plain("200 OK", b'{"error":"out of memory"}'), ErrorClass.STREAM_ERROR, "out of memory"),
        (head() + chunk(ollama("a")) + chunk(b'{"error":{"message":"lost the GPU"}}\n') + END, ErrorClass.STREAM_ERROR,
         "lost the GPU"),
        (plain("200 OK", b"<html>log in</html>", content_type="text/html"), ErrorClass.INVALID_BODY,
         "not valid JSON: invalid character (byte 0) (content type: text/html)"),
        (plain("200 OK", b'{"model":5,"done":true}'), ErrorClass.INVALID_BODY,
         "model: expected str | null, not int (content type: application/json)"),
        (head("200 OK", "application/x-ndjson", "Content-Encoding: gzip") + chunk(b"\x1f\x8b\x08") + END,
         ErrorClass.INVALID_BODY, "the response has the content coding gzip, which was not requested"),
        (head() + chunk(ollama("a")) + END, ErrorClass.TRUNCATED, "the response ended without its last message"),
    ],
)  # fmt: skip
async def test_an_error_has_a_class_and_the_words_of_the_server(
    client_of: Clients, answer: bytes, error: ErrorClass, words: str
) -> None:
    async with fault_server(answering(answer)) as server:
        sample = await ask(client_of(server.url))
    assert (sample.error, sample.detail) == (error, words)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (event({"choices": [{"delta": {"content": 5}}]}) + DONE, ErrorClass.INVALID_BODY,
         "choices[0].delta.content: expected str | array | null, not int"),
        (openai("a") + event({"error": {"message": "the engine died", "code": 500}}), ErrorClass.STREAM_ERROR,
         "the engine died"),
        (b'event: error\ndata: {"message":"overloaded"}\n\n', ErrorClass.STREAM_ERROR, "overloaded"),
        (event({"status": "ok"}) + DONE, ErrorClass.INVALID_BODY, "the response has neither content nor usage"),
        (openai("a"), ErrorClass.TRUNCATED, "the response ended without its last message"),
    ],
)  # fmt: skip
async def test_an_error_in_an_event_stream_names_the_field_or_the_reason(
    client_of: Clients, answer: bytes, error: ErrorClass, words: str
) -> None:
    async with fault_server(answering(head(content_type=SSE) + chunk(answer) + END)) as server:
        sample = await ask(client_of(server.url, _CHAT))
    assert sample.error is error
    assert sample.detail.startswith(words)


@pytest.mark.parametrize("reason", ["abort", "error", "content_filter"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_the_server_broke_off_is_an_error(
    client_of: Clients, reason: str, *, stream: bool
) -> None:
    """vLLM ends the answers of a paused or failing engine so, with the status 200 and a part of the content.

    OpenAI's API says so that it left content out.
    """
    answer = head(content_type=SSE) + chunk(openai("a")) + chunk(openai(finish=reason)) + chunk(DONE) + END
    if not stream:
        choice = {"index": 0, "message": {"content": "a"}, "finish_reason": reason}
        answer = plain("200 OK", json.dumps({"object": "chat.completion", "choices": [choice]}).encode())
    async with fault_server(answering(answer)) as server:
        sample = await ask(client_of(server.url, _CHAT, stream=stream))
    assert sample.error is ErrorClass.STREAM_ERROR
    assert sample.detail == f"the server ended the response with the reason {reason}"


async def test_any_other_json_object_is_not_an_answer(client_of: Clients) -> None:
    async with fault_server(answering(plain("200 OK", b'{"status":"ok"}'))) as server:
        sample = await ask(client_of(server.url, _CHAT, stream=False))
    assert sample.error is ErrorClass.INVALID_BODY


async def test_the_status_of_an_error_counts_although_its_body_is_cut_off(client_of: Clients) -> None:
    answer = head("500 Internal Server Error", framing="100") + b'{"error":"x'
    async with fault_server(answering(answer, close=True)) as server:
        assert (await ask(client_of(server.url))).error is ErrorClass.SERVER_ERROR


# ---- connections


async def test_a_name_that_does_not_resolve_is_an_error_of_dns(client_of: Clients) -> None:
    sample = await ask(client_of("http://nonexistent.invalid:1"))
    assert sample.error is ErrorClass.DNS
    assert sample.detail.startswith("cannot resolve nonexistent.invalid: ")


async def test_a_refused_connection_names_the_address(client_of: Clients) -> None:
    sample = await ask(client_of("http://127.0.0.1:1"))
    assert (sample.error, sample.detail) == (ErrorClass.REFUSED, "no connection to 127.0.0.1:1: Connection refused")


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    certificate, key = issue(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


async def test_a_certificate_is_accepted_from_its_authority_only(
    client_of: Clients, tls: tuple[ssl.SSLContext, Path]
) -> None:
    context, certificate = tls
    async with fault_server(answering(ANSWER), tls=context) as server:
        refused = await ask(client_of(server.url))
        errors = [(await ask(client_of(server.url, **trust))).error
                  for trust in ({"cacert": certificate}, {"insecure": True})]  # fmt: skip
    assert refused.error is ErrorClass.TLS
    assert refused.detail.endswith("the certificate is not accepted: self-signed certificate")
    assert errors == [None, None]


async def test_plain_http_at_a_tls_port_is_an_error_of_tls(
    client_of: Clients, tls: tuple[ssl.SSLContext, Path]
) -> None:
    async with fault_server(answering(ANSWER), tls=tls[0]) as server:
        sample = await ask(client_of(server.url.replace("https", "http")))
    assert sample.error is ErrorClass.TLS
    assert "https" in sample.detail


async def test_a_server_that_closes_without_an_answer_is_no_error_of_tls(client_of: Clients) -> None:
    async with fault_server(answering(close=True)) as server:
        sample = await ask(client_of(server.url))
    assert (sample.error, sample.detail) == (ErrorClass.RESET, "the connection was closed before a response")


async def test_tls_at_a_plain_port_is_an_error_of_tls(client_of: Clients) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sample = await ask(client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    server.close()
    assert sample.error is ErrorClass.TLS


async def heads_only(answer: bytes) -> asyncio.Server:
    """Return a server that waits for the end of a head, which TLS never sends, and then answers and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\nOllama is running", b"HTTP/1.0 404 Not Found\r\n\r\n",
               b"HTTP/1.1 400 Bad Request\r\n\r\nInvalid request"]
)  # fmt: skip
async def test_tls_at_a_plain_port_that_waits_is_an_error_of_tls_within_seconds(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(dialing, "_SLOW_HANDSHAKE_SECONDS", 0.1)
    server = await heads_only(answer)
    client = client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_seconds=600.0)
    samples = await asyncio.wait_for(asyncio.gather(*(ask(client) for _ in range(3))), 10)
    samples.append(await asyncio.wait_for(ask(client), 10))
    server.close()
    assert {sample.error for sample in samples} == {ErrorClass.TLS}
    assert {sample.detail.partition(": ")[2] for sample in samples} == {
        "the server does not answer with TLS, but in HTTP; write http:// in the URL"
    }


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\nThe plain HTTP request was sent to HTTPS port",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"",
    ],
)
async def test_a_slow_handshake_of_a_tls_server_is_awaited(
    client_of: Clients, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """The servers of both protocols are silent in a handshake: what they answer to HTTP tells them apart."""
    monkeypatch.setattr(dialing, "_SLOW_HANDSHAKE_SECONDS", 0.1)
    server = await heads_only(answer)
    client = client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_seconds=1.0)
    sample = await asyncio.wait_for(ask(client), 30)
    server.close()
    assert (sample.error, sample.detail) == (ErrorClass.TIMEOUT, "no connection with TLS within 1 s")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_says_nothing_times_out(client_of: Clients, scheme: str) -> None:
    async def silence(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with fault_server(silence) as server:
        sample = await ask(client_of(server.url.replace("http", scheme), timeout_seconds=0.3))
    assert sample.error is ErrorClass.TIMEOUT
    assert 0.25 <= sample.request_latency < 3
    assert sample.detail.endswith("within 0.3 s")


async def test_a_stream_that_stops_times_out(client_of: Clients) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(head() + chunk(ollama("a")))
        await asyncio.Event().wait()

    async with fault_server(stall) as server:
        sample = await ask(client_of(server.url, timeout_seconds=0.3))
    assert (sample.error, sample.chunks) == (ErrorClass.TIMEOUT, 1)


# ---- secrets


async def test_neither_the_key_nor_the_prompt_is_in_an_error(client_of: Clients) -> None:
    """The server repeats both: as they are, in parts, and in other white space."""
    question = PROMPT.messages[0][1]
    echoes = [
        f"invalid key {_KEY} for {question!r}",
        f"key {_KEY[:10]} is unknown; the message began with: {question[:30]}",
        f"Authorization: Bearer {_KEY}\n{question.replace(' ', chr(10))}",
        f"system: {'hidden instructions of the operator'[5:]}",
        "X-Tenant-Token: tenant-secret-99 and sk-other-key-12345",
    ]
    prompt = Prompt("q", "Math", (("system", "hidden instructions of the operator"), *PROMPT.messages))
    for words in echoes:
        async with fault_server(answering(plain("400 Bad Request", words.encode()))) as server:
            client = client_of(server.url, api_key=_KEY, headers={"X-Tenant-Token": "tenant-secret-99"})
            sample = await ask(client, prompt)
        for secret in (_KEY, _KEY[:10], "tenant-secret", "sk-other", question[:20], "instructions of the operator"):
            assert secret not in sample.detail.replace("\n", " "), words
        assert sample.detail.startswith("HTTP 400: ")


@pytest.mark.parametrize(
    "body", [b"a\x00b\r\nc\x1b[31m", "\u2028\x85 line".encode(), b"\xff\xfe" * 5, b"x" * 9000, b"[" * 5000]
)
async def test_an_error_is_one_line_of_bounded_length(client_of: Clients, body: bytes) -> None:
    async with fault_server(answering(plain("500 Internal Server Error", body))) as server:
        sample = await ask(client_of(server.url))
    assert re.fullmatch(LINE_PATTERN, sample.detail)
    assert len(sample.detail) <= 200


def test_ordinary_words_are_not_redacted() -> None:
    line = "model 'llama3.2:3b' not found, try pulling it first"
    assert Redactor([_KEY]).line(line, ["Tell me about llamas, and about models that were found."]) == line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"a"}}', "a"),
        (b'{"error":"a"}', "a"),
        (b'{"message":"a"}', "a"),
        (b'{"object":"error","message":"a","code":400}', "a"),
        (b'{"detail":"a"}', "a"),
        (b'[{"error":{"message":"a"}}]', "a"),
        (b'"a"', "a"),
        (b"{}", ""),
        (b"no JSON", "no JSON"),
    ],
)
def test_the_message_is_found_in_each_usual_shape(body: bytes, words: str) -> None:
    assert words_of(body) == words


# ---- what to do


@pytest.mark.parametrize("target", ["http://h:1", "https://h", "http://{target}"])
@pytest.mark.parametrize("api", list(Api))
def test_each_class_has_advice_on_one_line(api: Api, target: str) -> None:
    for error in ErrorClass:
        text = advice(error, api, target)
        assert text.endswith((".", ".)"))
        assert "\n" not in text
    assert target in advice(ErrorClass.REFUSED, api, target)
    assert advice("unknown", api, target) == ""


def test_an_answer_that_was_filtered_has_its_own_advice() -> None:
    words = "the server ended the response with the reason content_filter"
    assert "content filter" in advice(ErrorClass.STREAM_ERROR, Api.OPENAI_CHAT, "http://h", words)


def test_the_advice_about_tls_depends_on_the_scheme() -> None:
    assert "--cacert" in advice(ErrorClass.TLS, Api.OLLAMA_CHAT, "https://h")
    assert "https://" in advice("tls", Api.OLLAMA_CHAT, "http://h")


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ("IP address mismatch, certificate is not valid for '127.0.0.1'.", "names (subjectAltName)"),
        ("Hostname mismatch, certificate is not valid for 'h'.", "names (subjectAltName)"),
        ("certificate has expired", "Renew the certificate"),
        ("the server does not answer with TLS", "Write http://"),
    ],
)
def test_the_advice_about_tls_depends_on_what_is_wrong(example: str, words: str) -> None:
    text = advice(ErrorClass.TLS, Api.OLLAMA_CHAT, "https://h", f"no TLS connection to h: {example}")
    assert words in text
    assert "--cacert" not in text


# ---- pauses


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_retry_after_is_passed_on(client_of: Clients, status: str) -> None:
    async with fault_server(answering(plain(status, b"", "Retry-After: 5"))) as server:
        assert (await ask(client_of(server.url))).retry_after == 5.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"5", 5.0), (b" 0 ", 0.0), (b"1e3", None), (b"-1", None), (b"soon", None), (b"", None), (b"9" * 30, 86400.0),
     ("²".encode("latin-1"), None)],
)  # fmt: skip
def test_retry_after_is_a_number_of_seconds(value: bytes, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


def test_retry_after_is_a_date() -> None:
    assert seconds_of(formatdate(time.time() + 30, usegmt=True).encode()) == pytest.approx(30, abs=2)
    assert seconds_of(formatdate(0, usegmt=True).encode()) == 0.0


async def test_a_user_of_a_dead_server_waits(client_of: Clients) -> None:
    client = client_of("http://127.0.0.1:1")
    first = await ask(client)
    assert first.retry_after is not None
    assert first.retry_after >= 0.1


def test_pauses_double_while_everything_fails() -> None:
    outage, now, pauses = Outage(), 100.0, []
    for _ in range(9):
        pauses.append(outage.pause(now, is_connected=False))
        now += pauses[-1]
    assert pauses == pytest.approx([0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_an_answer_ends_the_pauses() -> None:
    outage = Outage()
    outage.pause(100.0, is_connected=True)
    assert outage.pause(104.0, is_connected=True) == 4.0
    outage.end()
    assert outage.pause(105.0, is_connected=True) == 0.0


async def test_an_answered_request_has_no_pause(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        assert (await ask(client_of(server.url))).retry_after is None
