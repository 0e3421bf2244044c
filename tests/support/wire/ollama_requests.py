"""Requests on every route that the simulator has, and the shape of an answer: its fields and types without its values.

The shapes of a real Ollama's answers are stored in `tests/simulator/ollama_shapes.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

_PROMPT = "What is the capital?"
_MESSAGES = [{"role": "user", "content": _PROMPT}]
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION = {"name": "get_weather", "description": "Weather of a city", "parameters": _PARAMETERS}
_TOOL = {"type": "function", "function": _FUNCTION}
_RESPONSES_TOOL = {"type": "function", **_FUNCTION}
_ANTHROPIC_TOOL = {"name": "get_weather", "description": "Weather of a city", "input_schema": _PARAMETERS}
_SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
_BLOB = b"hello"
_DIGEST = f"sha256:{hashlib.sha256(_BLOB).hexdigest()}"
_MISSING = "no-such-model"

#: Fields whose values are part of the shape: they select what a client does next.
_KEPT = frozenset(
    {"type", "object", "role", "done_reason", "finish_reason", "stop_reason", "done", "status_code", "event"}
)
#: Ollama omits a duration of zero, so these are present or absent by chance. `created` contains the time.
_OPTIONAL = frozenset({"load_duration", "prompt_eval_duration", "eval_duration", "total_duration"})


class Request(NamedTuple):
    """One request. `body` is a JSON value, bytes, or None."""

    name: str
    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()

    def content(self) -> dict[str, Any]:
        """Return the body and its type as arguments of an HTTP client, which does not follow redirects."""
        if self.body is None:
            return {"headers": dict(self.headers), "allow_redirects": False}
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Type": "application/json", **dict(self.headers)}
        return {"data": data, "headers": headers, "allow_redirects": False}


def ollama_requests(model: str) -> Iterator[Request]:
    """Yield the requests in an order that leaves the server as it was."""
    yield from _reads(model)
    for stream in (True, False):
        yield from _native(model, stream)
        yield from _openai(model, stream)
        yield from _responses(model, stream)
        yield from _messages(model, stream)
    yield from _embeddings(model)
    yield from _errors(model)
    yield from _management(model)
    yield from _aliases(model)
    yield from _pages(model)
    yield from _images(model)
    yield Request("load", "POST", "/api/generate", {"model": model})
    yield Request("loaded", "GET", "/api/ps")
    yield Request("load by chat", "POST", "/api/chat", {"model": model, "messages": []})
    yield Request("unload by chat", "POST", "/api/chat", {"model": model, "messages": [], "keep_alive": 0})
    yield Request("unload", "POST", "/api/generate", {"model": model, "keep_alive": "0s"})


def _reads(model: str) -> Iterator[Request]:
    for name, path in (("root", "/"), ("version", "/api/version"), ("tags", "/api/tags"), ("openai models", "/v1/models"),
                       ("openai model", f"/v1/models/{model}"), ("unknown route", "/api/nothing"),
                       ("status", "/api/status"), ("a slash at the end", "/api/tags/")):  # fmt: skip
        yield Request(name, "GET", path)
    for path in ("/", "/api/version", "/api/tags", "/api/ps", "/api/nothing"):
        yield Request(f"HEAD {path}", "HEAD", path)
    yield Request("POST with a slash at the end", "POST", "/api/chat/", {"model": model})
    yield Request("unknown method of a prefix", "GET", "/api/blobs/x")
    yield Request("unknown POST", "POST", "/v1/nothing", {"model": model})
    yield Request("unknown method", "GET", "/api/chat")
    yield Request("show", "POST", "/api/show", {"model": model})


def _pages(model: str) -> Iterator[Request]:
    """Yield requests of browser pages, and for hosts."""
    asks = ("Access-Control-Request-Method", "POST")
    chat = {"model": model, "messages": _MESSAGES, "think": False}
    for name, origin in (("local", "http://localhost:3000"), ("foreign", "http://example.com"),
                         ("extension", "chrome-extension://abc")):  # fmt: skip
        yield Request(f"page of a {name} origin", "GET", "/api/version", None, (("Origin", origin),))
        yield Request(f"preflight of a {name} origin", "OPTIONS", "/api/chat", None, (("Origin", origin), asks))
        yield Request(f"chat of a {name} origin", "POST", "/api/chat", chat, (("Origin", origin),))
    yield Request("OPTIONS without an origin", "OPTIONS", "/api/chat")
    for host in ("localhost", "example.com", "a.internal", "10.1.2.3:80", "8.8.8.8", "[::1]:11434"):
        yield Request(f"host {host}", "GET", "/api/version", None, (("Host", host),))
    yield Request("OPTIONS of a name", "OPTIONS", "/api/chat", None, (("Host", "localhost"),))


def _native(model: str, stream: bool) -> Iterator[Request]:
    kind = "stream" if stream else "whole"
    common = {"model": model, "stream": stream, "think": False}
    cut, thinking = {"options": {"num_predict": 3}}, {"think": True}
    for name, rest in (("", {}), ("cut", cut), ("thinking", thinking), ("format", {"format": _SCHEMA})):
        yield Request(f"generate {name} {kind}", "POST", "/api/generate", {**common, "prompt": _PROMPT, **rest})
        yield Request(f"chat {name} {kind}", "POST", "/api/chat", {**common, "messages": _MESSAGES, **rest})
    yield Request(f"chat tools {kind}", "POST", "/api/chat", {**common, "messages": _MESSAGES, "tools": [_TOOL]})
    call = {"function": {"name": "get_weather", "arguments": {"city": "Lisbon"}}}
    answered = [*_MESSAGES, {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_name": "get_weather", "content": "sunny"}]  # fmt: skip
    yield Request(f"chat tool result {kind}", "POST", "/api/chat", {**common, "messages": answered, "tools": [_TOOL]})


def _openai(model: str, stream: bool) -> Iterator[Request]:
    kind = "stream" if stream else "whole"
    # Any effort but `none` is refused by models that are not gpt-oss, so thinking cannot be compared here.
    chat = {"model": model, "stream": stream, "reasoning_effort": "none", "messages": _MESSAGES}
    schema = {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}}
    for name, rest in (("", {}), ("usage", {"stream_options": {"include_usage": True}}), ("cut", {"max_tokens": 3}),
                       ("tools", {"tools": [_TOOL]}), ("format", schema)):  # fmt: skip
        if name == "usage" and not stream:
            continue
        yield Request(f"openai chat {name} {kind}", "POST", "/v1/chat/completions", {**chat, **rest})
    completion = {"model": model, "stream": stream, "prompt": _PROMPT}
    yield Request(f"openai completion {kind}", "POST", "/v1/completions", completion)
    cut = {"max_tokens": 3, "stream_options": {"include_usage": True}}
    yield Request(f"openai completion cut {kind}", "POST", "/v1/completions", {**completion, **cut})


def _responses(model: str, stream: bool) -> Iterator[Request]:
    kind = "stream" if stream else "whole"
    # A model that can think does so by default, and Ollama 0.17.4 has no field of this API that changes it.
    common = {"model": model, "stream": stream, "input": _PROMPT, "reasoning": {"effort": "low"}}
    text = {"text": {"format": {"type": "json_schema", "name": "answer", "schema": _SCHEMA}}}
    for name, rest in (("", {}), ("instructions", {"instructions": "Be brief.", "temperature": 0}),
                       ("format", text)):  # fmt: skip
        yield Request(f"openai response {name} {kind}", "POST", "/v1/responses", {**common, **rest})
    yield Request(f"openai response tools {kind}", "POST", "/v1/responses",
                  {"model": model, "stream": stream, "input": _PROMPT, "tools": [_RESPONSES_TOOL]})  # fmt: skip


def _messages(model: str, stream: bool) -> Iterator[Request]:
    kind = "stream" if stream else "whole"
    # As for /v1/responses, the model thinks by default.
    common = {"model": model, "stream": stream, "max_tokens": 100, "messages": _MESSAGES}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    for name, rest in (("", thinking), ("cut", {**thinking, "max_tokens": 2}), ("tools", {"tools": [_ANTHROPIC_TOOL]})):
        yield Request(f"anthropic message {name} {kind}", "POST", "/v1/messages", {**common, **rest})


def _embeddings(model: str) -> Iterator[Request]:
    yield Request("embed", "POST", "/api/embed", {"model": model, "input": [_PROMPT, "Hello."]})
    yield Request("embed nothing", "POST", "/api/embed", {"model": model, "input": ""})
    yield Request("embed with dimensions", "POST", "/api/embed", {"model": model, "input": _PROMPT, "dimensions": 4})
    yield Request("embeddings", "POST", "/api/embeddings", {"model": model, "prompt": _PROMPT})
    yield Request("openai embeddings", "POST", "/v1/embeddings", {"model": model, "input": [_PROMPT, "Hello."]})
    packed = {"model": model, "input": _PROMPT, "encoding_format": "base64"}
    yield Request("openai embeddings packed", "POST", "/v1/embeddings", packed)


def _errors(model: str) -> Iterator[Request]:
    chat, prompt, given = {"messages": _MESSAGES}, {"prompt": _PROMPT}, {"input": _PROMPT}
    limited = {"max_tokens": 5, **chat}
    routes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/api/generate", prompt), ("/api/chat", chat), ("/api/embed", given), ("/api/embeddings", prompt),
        ("/api/show", {}), ("/v1/chat/completions", chat), ("/v1/completions", prompt), ("/v1/embeddings", given),
        ("/v1/responses", given), ("/v1/messages", limited))  # fmt: skip
    for path, body in routes:
        yield Request(f"missing model {path}", "POST", path, {"model": _MISSING, **body})
        yield Request(f"missing model in a stream {path}", "POST", path, {"model": _MISSING, "stream": True, **body})
        yield Request(f"no model {path}", "POST", path, body)
        yield Request(f"no JSON {path}", "POST", path, b"{")
        yield Request(f"no body {path}", "POST", path, b"")
        yield Request(f"an array {path}", "POST", path, b"[]")
    yield Request("openai model that is missing", "GET", f"/v1/models/{_MISSING}")
    yield Request("openai chat without messages", "POST", "/v1/chat/completions", {"model": model, "messages": []})
    yield Request(
        "anthropic without messages", "POST", "/v1/messages", {"model": model, "max_tokens": 5, "messages": []}
    )
    yield Request("anthropic without a limit", "POST", "/v1/messages", {"model": model, **chat})
    yield Request("embed a number", "POST", "/api/embed", {"model": model, "input": 1})
    yield Request("openai embeddings of nothing", "POST", "/v1/embeddings", {"model": model, "input": []})
    deep = (
        b'{"model":"' + model.encode() + b'","prompt":"x","stream":false,"think":false,"y":' + b"[" * 5000 + b"]" * 5000
    )
    yield Request("a deep body", "POST", "/api/generate", deep + b"}")
    yield Request("a body deeper than Ollama reads", "POST", "/api/generate", deep.replace(b"[" * 5000, b"[" * 10001))
    yield Request("think in a wrong way", "POST", "/api/chat", {"model": model, "think": "wrong", **chat})
    odd = {"MODEL": model, "prompt": "cut \ud83d", "stream": False, "think": False}
    yield Request("another case and a lone surrogate", "POST", "/api/generate", odd)


def _management(model: str) -> Iterator[Request]:
    yield Request("copy", "POST", "/api/copy", {"source": model, "destination": "copied"})
    yield Request("copy that is missing", "POST", "/api/copy", {"source": _MISSING, "destination": "copied"})
    for stream in (True, False):
        kind = "stream" if stream else "whole"
        create = {"model": "created", "from": model, "system": "Be brief.", "stream": stream}
        yield Request(f"create {kind}", "POST", "/api/create", create)
        # The registry of this name is a closed port for Ollama, and the simulator does not have it.
        missing = {"model": "127.0.0.1:9/none/none", "insecure": True, "stream": stream}
        yield Request(f"pull that fails {kind}", "POST", "/api/pull", missing)
        yield Request(f"push that fails {kind}", "POST", "/api/push", missing)
    yield Request("create from nothing", "POST", "/api/create", {"model": "created"})
    yield Request("show created", "POST", "/api/show", {"model": "created"})
    yield Request("delete", "DELETE", "/api/delete", {"model": "copied"})
    yield Request("delete created", "DELETE", "/api/delete", {"model": "created"})
    yield Request("delete that is missing", "DELETE", "/api/delete", {"model": _MISSING})
    for kind, stream in (("stream", True), ("whole", False)):
        yield Request(f"pull of an invalid name {kind}", "POST", "/api/pull", {"model": "-/x", "stream": stream})
        missing_blob = {"model": "created", "files": {"a.gguf": _DIGEST}, "stream": stream}
        yield Request(f"create from a missing blob {kind}", "POST", "/api/create", missing_blob)
    for path in ("/api/pull", "/api/push", "/api/create", "/api/copy"):
        yield Request(f"no body {path}", "POST", path, b"")
        yield Request(f"no JSON {path}", "POST", path, b"{")
        yield Request(f"no name {path}", "POST", path, {})
    yield Request("delete without a body", "DELETE", "/api/delete", b"")
    yield Request("delete without a name", "DELETE", "/api/delete", {})
    yield Request("blob of an invalid digest", "POST", "/api/blobs/sha256:x", _BLOB)
    yield Request("blob that has an invalid digest", "HEAD", "/api/blobs/sha256:x")
    yield Request("blob that is missing", "HEAD", f"/api/blobs/{_DIGEST}")
    yield Request("blob with a wrong digest", "POST", f"/api/blobs/{_DIGEST}", b"not hello")
    yield Request("blob", "POST", f"/api/blobs/{_DIGEST}", _BLOB)
    yield Request("blob that is present", "HEAD", f"/api/blobs/{_DIGEST}")


def _aliases(model: str) -> Iterator[Request]:
    path = "/api/experimental/aliases"
    yield Request("no aliases", "GET", path)
    for name, body in (
        ("alias", {"alias": "other", "target": model}),
        ("alias of an alias", {"alias": "third", "target": "other"}),
        ("alias that exists as a model", {"alias": model, "target": "other"}),
        ("alias of itself", {"alias": "self", "target": "self"}),
        ("alias in a circle", {"alias": "other", "target": "third"}),
        ("alias without a target", {"alias": "other"}),
        ("alias of an invalid name", {"alias": "other", "target": "-/"}),
        ("invalid alias", {"alias": "-/", "target": model}),
        ("alias of a prefix", {"alias": "pre-", "target": model, "prefix_matching": True}),
    ):
        yield Request(name, "POST", path, body)
    yield Request("alias without a body", "POST", path, b"")
    yield Request("aliases", "GET", path)
    chat = {"messages": _MESSAGES, "stream": False, "think": False}
    for name in ("other", "third", "pre-fixed"):
        yield Request(f"chat with the alias {name}", "POST", "/api/chat", {"model": name, **chat})
    for name in ("other", "third", "pre-"):
        yield Request(f"delete the alias {name}", "DELETE", path, {"alias": name})
    yield Request("delete an alias that is missing", "DELETE", path, {"alias": "other"})
    yield Request("delete no alias", "DELETE", path, {})


def _images(model: str) -> Iterator[Request]:
    picture = "data:image/png;base64,iVBORw0KGgo="
    for path, rest in (("/v1/images/generations", {}), ("/v1/images/edits", {"image": picture})):
        yield Request(f"image of a model for text {path}", "POST", path, {"model": model, "prompt": _PROMPT, **rest})
        yield Request(f"image of a missing model {path}", "POST", path, {"model": _MISSING, "prompt": _PROMPT, **rest})
        yield Request(f"image without a prompt {path}", "POST", path, {"model": model, **rest})
        yield Request(f"image without a model {path}", "POST", path, {"prompt": _PROMPT, **rest})
        yield Request(f"image without a body {path}", "POST", path, b"")
        yield Request(f"image and no JSON {path}", "POST", path, b"{")
    yield Request("image edit without an image", "POST", "/v1/images/edits", {"model": model, "prompt": _PROMPT})


def shape_of_answer(status: int, content_type: str, body: bytes) -> dict[str, Any]:
    """Return status, content type, and the shape of the body. Equal shapes that follow each other are one."""
    kind = content_type.partition(";")[0]
    shape: dict[str, Any] = {"status": status, "content_type": content_type}
    if kind == "text/event-stream":
        return shape | {"events": _distinct(_event(block) for block in body.decode().split("\n\n") if block)}
    if kind == "application/x-ndjson":
        lines = (json.loads(line) for line in body.splitlines())
        # Ollama 0.17.4 sends empty pieces while it looks for the begin of the thinking.
        told = (line for line in lines if line.get("response") != "" or line["done"] or "thinking" in line)
        return shape | {"lines": _distinct(map(shape_of, told))}
    if kind == "application/json" and body:
        return shape | {"body": shape_of(json.loads(body))}
    return shape | ({"text": body.decode()} if body else {})


def shape_of(value: Any, key: str = "") -> Any:
    """Return the names of the fields and the types of the values. Values that select what a client does are kept."""
    match value:
        case dict():
            return {name: shape_of(inner, name) for name, inner in sorted(value.items()) if name not in _OPTIONAL}
        case list():
            return _distinct(shape_of(inner) for inner in value)
        case bool() | None:
            return value
        case str():
            return value if key in _KEPT else "text"
        case _:
            return "number"


def _event(block: str) -> Any:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    data = fields["data"]
    return {**({"event": fields["event"]} if "event" in fields else {}),
            "data": data if data == "[DONE]" else shape_of(json.loads(data))}  # fmt: skip


def _distinct(shapes: Iterator[Any]) -> list[Any]:
    """Return the shapes without those that equal the one before."""
    found: list[Any] = []
    for shape in shapes:
        if not found or found[-1] != shape:
            found.append(shape)
    return found
