"""Outcomes and tokens of responses whose client does not wait for the end of the framing."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from support.servers import StartSidecar
from support.waiting import eventually
from support.wire.data_path import Clock, DataPath

REQUEST = json.dumps({"model": "tiny", "stream": True, "prompt": "x", "messages": [], "input": "x"}).encode()
NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"


class Stream(NamedTuple):
    """A stream with five pieces of content, whose usage says 60 tokens. `end` contains the terminal event."""

    path: str
    content_type: str
    content: str
    end: str


def event(data: object, name: str = "") -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"


def line(**fields: object) -> str:
    return json.dumps({"model": "tiny", **fields}) + "\n"


_DONE = line(done=True, done_reason="stop", prompt_eval_count=7, eval_count=60)
_CHAT = event({"model": "tiny", "choices": [{"delta": {"content": " a"}}]})
_TEXT = event({"model": "tiny", "choices": [{"text": " a"}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
_USAGE = event({"model": "tiny", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 60}})
_DELTA = event({"type": "response.output_text.delta", "delta": " a"}, "response.output_text.delta")
_COMPLETED = {"model": "tiny", "status": "completed", "usage": {"input_tokens": 7, "output_tokens": 60}}
_BLOCK = event({"delta": {"type": "text_delta", "text": " a"}}, "content_block_delta")
_MESSAGE = event(
    {"delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 7, "output_tokens": 60}}, "message_delta"
)

ENDED = {
    "chat": Stream("/api/chat", NDJSON, line(message={"content": " a"}), _DONE),
    "generate": Stream("/api/generate", NDJSON, line(response=" a"), _DONE),
    "openai_chat": Stream("/v1/chat/completions", EVENTS, _CHAT, _USAGE + event("[DONE]")),
    "openai_completions": Stream("/v1/completions", EVENTS, _TEXT, _USAGE + event("[DONE]")),
    "openai_responses": Stream("/v1/responses", EVENTS, _DELTA, event({"response": _COMPLETED}, "response.completed")),
    "anthropic_messages": Stream("/v1/messages", EVENTS, _BLOCK, _MESSAGE + event({}, "message_stop")),
}
FAILED = {
    "chat": ENDED["chat"]._replace(end=line(error="broken")),
    "generate": ENDED["generate"]._replace(end=line(error="broken")),
    "openai_chat": ENDED["openai_chat"]._replace(end=event({"error": {"message": "broken"}})),
    "openai_completions": ENDED["openai_completions"]._replace(end=event({"error": {"message": "broken"}})),
    "openai_responses": ENDED["openai_responses"]._replace(end=event({"response": {}}, "response.failed")),
    "anthropic_messages": ENDED["anthropic_messages"]._replace(end=event({"type": "error"}, "error")),
}
CUT = {name: stream._replace(end="") for name, stream in ENDED.items()}


class Upstream:
    """Sends a stream without the last chunk of its framing, and answers the sidecar's own requests with 404."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {self._stream.content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode())
            for text in (*[self._stream.content] * 5, self._stream.end):
                if text:
                    writer.write(b"%x\r\n%b\r\n" % (len(text), text.encode()))
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Leave = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def record_of(
    stack: AsyncExitStack, start_sidecar: StartSidecar, stream: Stream, leave: Leave
) -> tuple[RequestRecord, Sidecar]:
    """Send a request, leave when the last event has arrived at the sidecar, and return the record."""
    server = await asyncio.start_server(Upstream(stream).serve, "127.0.0.1", 0)
    stack.callback(server.close)
    sidecar = await start_sidecar(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (stream.path.encode(), len(REQUEST)) + REQUEST)
    last = (stream.end or stream.content).encode()
    await reader.readuntil(last + b"\r\n")
    await leave(writer)
    await eventually(lambda: bool(sidecar.runtime.meter.find("mine")))
    (record,) = sidecar.runtime.meter.find("mine")
    return record, sidecar


def tokens(sidecar: Sidecar) -> tuple[int, int]:
    metrics = sidecar.runtime.metrics
    return metrics.total("prompt_tokens"), metrics.total("generation_tokens")


@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize("name", ENDED)
async def test_a_client_that_leaves_after_the_terminal_event_does_not_change_the_outcome(
    stack: AsyncExitStack, start_sidecar: StartSidecar, name: str, leave: Leave
) -> None:
    record, sidecar = await record_of(stack, start_sidecar, ENDED[name], leave)
    assert (record.operation, record.outcome, record.code) == (name, "ok", 200)
    assert (record.prompt_tokens, record.generation_tokens) == tokens(sidecar) == (7, 60)


@pytest.mark.parametrize("name", FAILED)
async def test_a_client_that_leaves_after_an_error_does_not_change_the_outcome(
    stack: AsyncExitStack, start_sidecar: StartSidecar, name: str
) -> None:
    record, sidecar = await record_of(stack, start_sidecar, FAILED[name], close)
    assert (record.operation, record.outcome, record.code) == (name, "stream_error", 200)
    assert tokens(sidecar) == (0, 5)


@pytest.mark.parametrize("name", CUT)
async def test_a_client_that_leaves_before_the_terminal_event_has_cancelled(
    stack: AsyncExitStack, start_sidecar: StartSidecar, name: str
) -> None:
    record, sidecar = await record_of(stack, start_sidecar, CUT[name], close)
    assert (record.operation, record.outcome, record.code) == (name, "client_cancelled", 200)
    assert tokens(sidecar) == (0, 5)


@pytest.mark.parametrize("leave", [close, reset])
async def test_a_whole_response_counts_when_its_object_is_complete(
    stack: AsyncExitStack, start_sidecar: StartSidecar, leave: Leave
) -> None:
    body = {
        "model": "tiny",
        "choices": [{"message": {"content": "a"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 60},
    }
    text = json.dumps(body)
    whole = Stream("/v1/chat/completions", "application/json", "   ", text)
    record, sidecar = await record_of(stack, start_sidecar, whole, leave)
    assert record.outcome == "ok"
    assert tokens(sidecar) == (7, 60)
    cut, _ = await record_of(stack, start_sidecar, whole._replace(end=text[:-1]), leave)
    assert cut.outcome == "client_cancelled"


# ---- what else happens after the terminal event, without sockets


def chunk(text: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text.encode())


def client_stops_reading(path: DataPath, clock: Clock) -> None:
    path.client.pause_writing()
    clock.now += 1e6
    path.client.check_timeouts(clock.now, Timeouts())
    path.client.connection_lost(None)


def upstream_falls_silent(path: DataPath, clock: Clock) -> None:
    clock.now += 1e6
    path.client.check_timeouts(clock.now, Timeouts())


def upstream_breaks_off(path: DataPath, clock: Clock) -> None:
    path.upstreams[0][0].connection_lost(None)


def process_stops(path: DataPath, clock: Clock) -> None:
    path.client.abort()
    path.client.connection_lost(None)


@pytest.mark.parametrize("happens", [client_stops_reading, upstream_falls_silent, upstream_breaks_off, process_stops])
@pytest.mark.parametrize("name", ENDED)
def test_nothing_after_the_terminal_event_changes_the_outcome(
    name: str, happens: Callable[[DataPath, Clock], None]
) -> None:
    clock, stream = Clock(), ENDED[name]
    path = DataPath(clock=clock)
    head = f"POST {stream.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(REQUEST)}\r\n\r\n"
    path.client.data_received(head.encode() + REQUEST)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {stream.content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    path.upstreams[0][0].data_received(head.encode() + chunk(stream.content) * 5 + chunk(stream.end))
    happens(path, clock)
    path.meter.close()
    assert path.metrics.totals_by("requests", "outcome") == {"ok": 1}
    assert path.metrics.total("generation_tokens") == 60
