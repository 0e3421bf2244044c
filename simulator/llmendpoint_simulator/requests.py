"""Bodies of requests, read as leniently as Ollama reads them (Go's `encoding/json`)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

from llmendpoint_common.process.units import parse_duration
from llmendpoint_simulator.memory import FOREVER

#: Depth at which Go's decoder refuses a body (`encoding/json`, maxNestingDepth).
_MAX_DEPTH = 10_000
#: Python's decoder is recursive. What is nested deeper than this is replaced by null, and no field is read so deep.
_READ_DEPTH = 200
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
#: Types that Ollama names in its sentences, by path.
_GO_TYPES = {
    "/api/generate": "api.GenerateRequest",
    "/api/chat": "api.ChatRequest",
    "/api/embed": "api.EmbedRequest",
    "/api/embeddings": "api.EmbeddingRequest",
    "/api/show": "api.ShowRequest",
    "/api/pull": "api.PullRequest",
    "/api/push": "api.PushRequest",
    "/api/create": "api.CreateRequest",
    "/api/copy": "api.CopyRequest",
    "/api/delete": "api.DeleteRequest",
    "/v1/chat/completions": "openai.ChatCompletionRequest",
    "/v1/completions": "openai.CompletionRequest",
    "/v1/embeddings": "openai.EmbedRequest",
    "/v1/responses": "openai.ResponsesRequest",
    "/v1/messages": "anthropic.MessagesRequest",
    "/v1/images/generations": "openai.ImageGenerationRequest",
    "/v1/images/edits": "openai.ImageEditRequest",
}


class RequestError(Exception):
    """A request that Ollama refuses.

    `malformed` is True if the body is refused before the model is looked up. The OpenAI API then has another type of
    error. `reason` is the reason in the ledger, such as an injected fault.
    """

    def __init__(self, status: int, sentence: str, *, malformed: bool = False, reason: str = "refused") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status
        self.sentence = sentence
        self.malformed = malformed


def read_body(data: bytes, path: str = "", *, native: bool = True) -> dict[str, Any]:
    """Return the JSON object of a body. Names of fields are compared in lower case, and the last of equal ones wins.

    Bytes that are not UTF-8 become U+FFFD, and bytes after the object are ignored. Raises RequestError with the
    sentence of Ollama's native API, or of its other APIs if `native` is False. `path` is that of the route.
    """
    text = _flatten(data).decode("utf-8", "replace").lstrip()
    if not text:
        raise RequestError(400, "missing request body" if native else "EOF", malformed=True)
    try:
        body, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) - 1
        raise RequestError(400, "unexpected EOF" if cut else f"invalid character: {error}", malformed=True) from error
    if not isinstance(body, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(body), "number")
        into = f" of type {_GO_TYPES[path]}" if path in _GO_TYPES else ""
        raise RequestError(400, f"json: cannot unmarshal {kind} into Go value{into}", malformed=True)
    return {name.lower(): value for name, value in body.items()}


def _flatten(data: bytes) -> bytes:
    """Return the body with null in place of each value that is nested deeper than Python's decoder can read."""
    if data.count(b"[") + data.count(b"{") <= _READ_DEPTH:
        return data
    depth = 0
    kept: list[bytes] = []
    begin = 0
    for token in _TOKENS.finditer(data):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise RequestError(400, "invalid character '[' exceeded max depth", malformed=True)
            if depth == _READ_DEPTH:
                kept += [data[begin : token.start()], b"null"]
        elif first in b"]}":
            if depth == _READ_DEPTH:
                begin = token.end()
            depth -= 1
    return b"".join(kept) + data[begin:]


def keep_alive(value: Any) -> timedelta | None:
    """Return the time that the model stays in memory, from seconds or text such as `10m`. Negative means forever.

    None if the request does not say it.
    """
    if isinstance(value, str) and value.startswith("-"):
        return FOREVER
    if isinstance(value, str):
        try:
            return timedelta(seconds=parse_duration(value))
        except ValueError:
            return None
    if isinstance(value, int | float):
        return FOREVER if value < 0 or value > FOREVER.total_seconds() else timedelta(seconds=value)
    return None


def prompt_of(body: dict[str, Any]) -> str:
    """Return the text of a request: its prompt, input or messages."""
    given = body.get("prompt") or body.get("input") or body.get("messages") or ""
    return given if isinstance(given, str) else " ".join(_text(part) for part in given)


def _text(part: Any) -> str:
    if isinstance(part, dict):
        content = part.get("content") or part.get("text") or ""
        return content if isinstance(content, str) else " ".join(_text(inner) for inner in content)
    return str(part)


def prompt_tokens(prompt: str) -> int:
    """Return the number of prompt tokens: one per word, and at least one."""
    return max(1, len(prompt.split()))


def is_valid_name(name: str) -> bool:
    """Return whether Ollama accepts a model name: each of its parts begins with a letter, a digit or an underscore."""
    return all(re.match(r"\w", part) for part in name.rpartition("://")[2].split("/"))
