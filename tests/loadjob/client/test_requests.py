"""The bytes of the requests: their fields for each API, their headers, and what never gets into a header."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import (
    Api,
    RunDocument,
    RunLoad,
    RunRequest,
    RunTarget,
    parse_run_document,
    write_run_document,
)  # fmt: skip
from llmendpoint_common.process.errors import RunDocumentError, TargetError
from llmendpoint_loadjob.client.requests import RequestWriter
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import Prompt
from support.load.load_clients import Clients, ask
from support.wire.fault_server import ANSWER, answering, fault_server

_CHAT, _GENERATE, _OPENAI = Api.OLLAMA_CHAT, Api.OLLAMA_GENERATE, Api.OPENAI_CHAT
_PROMPT = Prompt("q", "Math", (("system", "Be brief."), ("user", "6 x 7?")), 50)
_HISTORY = (("user", "Hello"), ("assistant", "Hi"))


def document(api: Api, **request: Any) -> RunDocument:
    return RunDocument(
        RunTarget("http://h/base?v=1", api), "m:1", RunLoad(concurrency=1), request=RunRequest(**request)
    )


def written(api: Api, *, key: str | None = None, history: Any = (), **request: Any) -> tuple[list[str], Any]:
    run = document(api, **request)
    raw = RequestWriter(parse_target(run.target.url), run, key).write(_PROMPT, "abc", history)
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert f"Content-Length: {len(body)}" in lines
    return lines, json.loads(body)


_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6 x 7?"}]


@pytest.mark.parametrize(
    ("api", "path", "expected"),
    [
        (_CHAT, "/base/api/chat?v=1", {"messages": _MESSAGES, "stream": True, "options": {"num_predict": 50}}),
        (_GENERATE, "/base/api/generate?v=1",
         {"prompt": "6 x 7?", "system": "Be brief.", "stream": True, "options": {"num_predict": 50}}),
        (_OPENAI, "/base/v1/chat/completions?v=1",
         {"messages": _MESSAGES, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 50}),
    ],
)  # fmt: skip
def test_each_api_has_its_own_fields(api: Api, path: str, expected: dict[str, Any]) -> None:
    lines, body = written(api)
    assert lines[0] == f"POST {path} HTTP/1.1"
    assert body == {"model": "m:1", **expected}
    assert "X-Request-ID: abc" in lines
    assert "Host: h" in lines


@pytest.mark.parametrize("api", list(Api))
def test_an_answer_that_is_not_streamed_is_requested(api: Api) -> None:
    _, body = written(api, stream=False)
    assert body["stream"] is False
    assert "stream_options" not in body


def test_earlier_messages_come_after_the_system_message() -> None:
    for api in (_CHAT, _OPENAI):
        _, body = written(api, history=_HISTORY)
        assert [message["content"] for message in body["messages"]] == ["Be brief.", "Hello", "Hi", "6 x 7?"]
    _, body = written(_GENERATE, history=_HISTORY)
    assert body["prompt"] == "User: Hello\n\nAssistant: Hi\n\nUser: 6 x 7?"


def test_limits_and_options_of_the_run_win() -> None:
    _, body = written(_CHAT, max_tokens=9, temperature=0.5, options={"num_ctx": 4096, "temperature": 0.0})
    assert body["options"] == {"num_predict": 9, "temperature": 0.0, "num_ctx": 4096}
    _, body = written(_OPENAI, max_tokens=9, temperature=0.5)
    assert (body["max_tokens"], body["temperature"]) == (9, 0.5)


def test_additional_fields_are_sent() -> None:
    _, body = written(_CHAT, body={"think": True, "keep_alive": "10m", "options": {"seed": 1}})
    assert (body["think"], body["keep_alive"]) == (True, "10m")
    assert body["options"] == {"num_predict": 50, "seed": 1}
    _, body = written(_OPENAI, body={"stream_options": {"continuous_usage_stats": True}, "max_completion_tokens": 5})
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert "max_tokens" not in body


def test_given_headers_replace_ours_whatever_their_case() -> None:
    lines, _ = written(_CHAT, key="sk", headers={"HOST": "other.example", "x-tenant": "a"})
    assert [line for line in lines if line.lower().startswith("host:")] == ["HOST: other.example"]
    assert {"x-tenant: a", "Authorization: Bearer sk"} <= set(lines)


@pytest.mark.parametrize("key", ["sk\n", "sk\r\nX-Evil: 1", "\nsk", "sk\0", "sk\x7f", "s\udc80k", ""])
def test_a_key_that_would_break_a_header_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(TargetError, match="the API key cannot be sent") as refused:
        written(_CHAT, key=key)
    assert "sk" not in str(refused.value)
    assert "Evil" not in str(refused.value)


def test_a_key_and_its_header_exclude_each_other() -> None:
    with pytest.raises(TargetError, match="either an API key or the header Authorization"):
        written(_CHAT, key="sk", headers={"authorization": "Basic x"})


@pytest.mark.parametrize(
    ("request_fields", "sentence"),
    [
        ({"headers": {"X-A": "1\r\nX-Evil: 1"}}, "the value of the header X-A contains a control character"),
        ({"headers": {"X-A": "1\n"}}, "control character"),
        ({"headers": {"X A": "1"}}, "a name of a header must consist of"),
        ({"headers": {"X-A\r\nX-Evil": "1"}}, "a name of a header must consist of"),
        ({"headers": {"": "1"}}, "a name of a header must consist of"),
        ({"headers": {"content-length": "1"}}, "the header content-length is set by the load generator"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "is set by the load generator"),
        ({"headers": {"X-Request-ID": "1"}}, "is set by the load generator"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "given twice"),
        ({"body": {"stream": False}}, "the field stream of the body is set by the load generator"),
        ({"body": {"messages": []}}, "the field messages of the body"),
        ({"body": {"model": "other"}}, "the field model of the body"),
    ],
)
def test_headers_and_fields_that_cannot_be_sent_are_refused(request_fields: dict[str, Any], sentence: str) -> None:
    """From whatever source: in the code, and in a document."""
    with pytest.raises(ValueError, match=sentence):
        RunRequest(**request_fields)
    fields = msgspec.to_builtins(document(_CHAT)) | {"request": request_fields}
    fields["load"] = {"concurrency": 1}
    with pytest.raises(RunDocumentError, match=f"request: .*{sentence}"):
        parse_run_document(json.dumps(fields).encode(), "run.json")


def test_options_of_ollama_are_refused_for_other_apis() -> None:
    with pytest.raises(ValueError, match=r"request.options is only allowed with the APIs of Ollama; use request.body"):
        document(_OPENAI, options={"num_ctx": 1})


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_of_zero_is_refused(seconds: int) -> None:
    text = write_run_document(document(_CHAT)).replace('"timeoutSeconds": 300.0', f'"timeoutSeconds": {seconds}')
    with pytest.raises(RunDocumentError, match=r"request.timeoutSeconds: Expected `float` > 0"):
        parse_run_document(text.encode(), "run.json")


async def test_the_query_and_the_headers_arrive(client_of: Clients) -> None:
    async with fault_server(answering(ANSWER)) as server:
        client = client_of(f"{server.url}/base?v=1", api_key="sk", headers={"X-Tenant": "a"})
        assert (await ask(client)).error is None
    request = server.received[0]
    assert request.line == "POST /base/api/chat?v=1 HTTP/1.1"
    assert (request.headers["x-tenant"], request.headers["authorization"]) == ("a", "Bearer sk")
    assert request.headers["user-agent"].startswith("llmendpoint/")
