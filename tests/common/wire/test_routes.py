"""The table of routes: operations of request lines, dialects of responses, and the sets that admission uses."""

from __future__ import annotations

from collections import Counter

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.anthropic import MessagesObjectDialect, MessagesStreamDialect
from llmendpoint_common.wire.dialects.ollama import EmbedDialect, OllamaDialect, ProgressDialect
from llmendpoint_common.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_common.wire.dialects.responses import ResponsesObjectDialect, ResponsesStreamDialect
from llmendpoint_common.wire.dialects.unknown import UnknownObjectDialect, UnknownStreamDialect
from llmendpoint_common.wire.routes import (
    MANAGEMENT,
    METERED,
    ROUTES,
    TRANSFERS,
    USAGE_ON_REQUEST,
    WITH_MODEL,
    RouteClass,
    dialect_of,
    operation_of,
    path_of_operation,
    route_class,
)
from support.servers import StartSimulator

NDJSON, SSE, JSON = b"application/x-ndjson", b"text/event-stream; charset=utf-8", b"application/json"


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        (b"POST", b"/api/generate", Operation.GENERATE),
        (b"POST", b"/api/chat?trace=1", Operation.CHAT),
        (b"POST", b"http://host:11434/api/chat", Operation.CHAT),
        (b"POST", b"/api/%63hat", Operation.CHAT),
        (b"GET", b"/api/chat", Operation.OTHER),
        (b"POST", b"/api/embed", Operation.EMBED),
        (b"POST", b"/api/embeddings", Operation.EMBEDDINGS),
        (b"POST", b"/v1/chat/completions", Operation.OPENAI_CHAT),
        (b"POST", b"/v1/completions", Operation.OPENAI_COMPLETIONS),
        (b"POST", b"/v1/embeddings", Operation.OPENAI_EMBEDDINGS),
        (b"POST", b"/v1/responses", Operation.OPENAI_RESPONSES),
        (b"POST", b"/v1/audio/transcriptions", Operation.OPENAI_TRANSCRIPTIONS),
        (b"POST", b"/v1/messages", Operation.ANTHROPIC_MESSAGES),
        (b"POST", b"/api/pull", Operation.PULL),
        (b"POST", b"/api/push", Operation.PUSH),
        (b"POST", b"/api/create", Operation.CREATE),
        (b"POST", b"/api/copy", Operation.COPY),
        (b"DELETE", b"/api/delete", Operation.DELETE),
        (b"POST", b"/api/show", Operation.SHOW),
        (b"POST", b"/api/blobs/sha256:00", Operation.BLOB),
        (b"HEAD", b"/api/blobs/sha256:00", Operation.BLOB),
        (b"GET", b"/api/tags", Operation.LIST),
        (b"GET", b"/api/ps", Operation.LIST),
        (b"GET", b"/v1/models", Operation.LIST),
        (b"HEAD", b"/api/tags", Operation.LIST),
        (b"GET", b"/v1/models/tiny", Operation.SHOW),
        (b"DELETE", b"/v1/models/tiny", Operation.OTHER),
        (b"GET", b"/", Operation.INFO),
        (b"POST", b"/v1/images/generations", Operation.OPENAI_IMAGE_GENERATIONS),
        (b"POST", b"/v1/images/edits", Operation.OPENAI_IMAGE_EDITS),
        (b"DELETE", b"/api/experimental/aliases", Operation.ALIAS),
        (b"DELETE", b"/api/user/keys/abc", Operation.ACCOUNT),
        (b"GET", b"/debug/pprof/heap", Operation.OTHER),
        (b"POST", b"http://host?x=/api/chat", Operation.OTHER),
        (b"POST", b"http:///api/chat", Operation.CHAT),
    ],
)
def test_a_request_line_has_an_operation(method: bytes, target: bytes, operation: Operation) -> None:
    assert operation_of(method, target) is operation


@pytest.mark.parametrize(
    ("operation", "content_type", "dialect"),
    [
        (Operation.GENERATE, NDJSON, OllamaDialect),
        (Operation.GENERATE, JSON, OllamaDialect),
        (Operation.CHAT, NDJSON, OllamaDialect),
        (Operation.EMBED, JSON, EmbedDialect),
        (Operation.EMBEDDINGS, JSON, EmbedDialect),
        (Operation.OPENAI_CHAT, SSE, OpenAIStreamDialect),
        (Operation.OPENAI_CHAT, JSON, OpenAIObjectDialect),
        (Operation.OPENAI_COMPLETIONS, SSE, OpenAIStreamDialect),
        (Operation.OPENAI_EMBEDDINGS, JSON, OpenAIObjectDialect),
        (Operation.OPENAI_RESPONSES, SSE, ResponsesStreamDialect),
        (Operation.OPENAI_RESPONSES, JSON, ResponsesObjectDialect),
        (Operation.ANTHROPIC_MESSAGES, SSE, MessagesStreamDialect),
        (Operation.ANTHROPIC_MESSAGES, JSON, MessagesObjectDialect),
        (Operation.PULL, NDJSON, ProgressDialect),
        (Operation.CREATE, JSON, ProgressDialect),
        (Operation.OTHER, SSE, UnknownStreamDialect),
        (Operation.OTHER, JSON, UnknownObjectDialect),
        (Operation.OPENAI_TRANSCRIPTIONS, JSON, UnknownObjectDialect),
        (Operation.OPENAI_IMAGE_GENERATIONS, JSON, UnknownObjectDialect),
    ],
)
def test_an_answer_has_a_reader(operation: Operation, content_type: bytes, dialect: type[object]) -> None:
    assert type(dialect_of(operation, content_type, lambda now: None)) is dialect


def test_operations_that_neither_run_a_model_nor_transfer_files_have_no_reader() -> None:
    for operation in set(Operation) - WITH_MODEL - TRANSFERS - {Operation.OTHER}:
        with pytest.raises(KeyError):
            dialect_of(operation, JSON, lambda now: None)


def test_the_sets_are_as_limits_need_them() -> None:
    assert {Operation.PULL, Operation.PUSH, Operation.CREATE} == TRANSFERS
    assert TRANSFERS | {
        Operation.COPY, Operation.DELETE, Operation.BLOB, Operation.ALIAS, Operation.ACCOUNT,
    } == MANAGEMENT  # fmt: skip
    assert METERED | {
        Operation.OPENAI_TRANSCRIPTIONS, Operation.OPENAI_IMAGE_GENERATIONS, Operation.OPENAI_IMAGE_EDITS,
    } == WITH_MODEL  # fmt: skip
    assert {Operation.OPENAI_CHAT, Operation.OPENAI_COMPLETIONS} == USAGE_ON_REQUEST
    assert {
        Operation.GENERATE, Operation.CHAT, Operation.EMBED, Operation.EMBEDDINGS, Operation.OPENAI_CHAT,
        Operation.OPENAI_COMPLETIONS, Operation.OPENAI_EMBEDDINGS, Operation.OPENAI_RESPONSES,
        Operation.ANTHROPIC_MESSAGES,
    } == METERED  # fmt: skip


def test_every_operation_has_one_class() -> None:
    classes = {(route.operation, route.route_class) for route in ROUTES}
    assert Counter(operation for operation, _ in classes) == dict.fromkeys(set(Operation) - {Operation.OTHER}, 1)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"POST", b"/v1/images/generations", RouteClass.INFERENCE),
        (b"POST", b"/api/show", RouteClass.READ_ONLY),
        (b"HEAD", b"/", RouteClass.READ_ONLY),
        (b"DELETE", b"/api/delete", RouteClass.MANAGEMENT),
        (b"POST", b"/api/signout", RouteClass.MANAGEMENT),
        (b"OPTIONS", b"/api/delete", RouteClass.READ_ONLY),
        # Only the body can tell.
        (b"POST", b"/api/new", None),
        (b"POST", b"/api/chat/", None),
        (b"POST", b"//api/chat", None),
        (b"POST", b"/api/x/../chat", None),
        (b"POST", b"/API/CHAT", None),
        # A route that is not known fails closed. Go's profiler shows the memory of the process.
        (b"GET", b"/debug/pprof/heap", RouteClass.MANAGEMENT),
        (b"GET", b"/api/new", RouteClass.MANAGEMENT),
        (b"DELETE", b"/api/new", RouteClass.MANAGEMENT),
        (b"PUT", b"/api/chat", RouteClass.MANAGEMENT),
    ],
)
def test_a_request_line_has_a_class(method: bytes, target: bytes, expected: RouteClass | None) -> None:
    assert route_class(method, operation_of(method, target)) is expected


def test_the_path_of_an_operation_leads_back_to_it() -> None:
    assert path_of_operation(Operation.CHAT) == "/api/chat"
    assert path_of_operation(Operation.OPENAI_CHAT) == "/v1/chat/completions"
    assert path_of_operation(Operation.LIST) == "/api/tags"
    for operation in METERED:
        assert operation_of(b"POST", path_of_operation(operation).encode()) is operation
    with pytest.raises(KeyError):
        path_of_operation(Operation.OTHER)


async def test_the_simulator_serves_every_metered_route(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    said = {"prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    body = {"model": "simulated", **said}
    for operation in METERED:
        async with http.post(f"{simulator.url}{path_of_operation(operation)}", json=body) as response:
            assert response.status == 200, operation
    operations = {entry.operation for entry in simulator.simulator.ledger.entries}
    assert operations == {operation.value for operation in METERED}
