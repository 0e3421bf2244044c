"""What is sent: a question as the bytes of one HTTP request."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER
from llmendpoint_common.wire.http1 import heads
from llmendpoint_loadjob.dataset.questions import Question

_PATHS = {Api.OLLAMA_CHAT: "/api/chat", Api.OPENAI_CHAT: "/v1/chat/completions"}


@dataclass(frozen=True)
class Target:
    """Where requests go; `prefix` is the path of the base URL."""

    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None
    url: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(text: str) -> Target:
    """Return the target of a base URL such as `http://127.0.0.1:11435`."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL; write it like http://127.0.0.1:11435")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    # OpenAI's clients are given a base URL with /v1, Ollama's without.
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Target(parts.hostname, port, prefix, tls, text)


@dataclass(frozen=True)
class RequestOptions:
    """What all requests of a run share; `max_tokens` None leaves the question's own bound."""

    api: Api
    model: str
    stream: bool = True
    max_tokens: int | None = None
    temperature: float | None = None
    api_key: str | None = None


def write_request(target: Target, options: RequestOptions, question: Question, request_id: str) -> bytes:
    """Return the whole request."""
    body = msgspec.json.encode(_body(options, question))
    headers = [
        (b"Host", target.authority.encode()),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (REQUEST_ID_HEADER.encode(), request_id.encode()),
    ]
    if options.api_key:
        headers.append((b"Authorization", b"Bearer " + options.api_key.encode()))
    line = f"POST {target.prefix}{_PATHS[options.api]} HTTP/1.1".encode()
    return heads.write_head(line, headers) + body


def _body(options: RequestOptions, question: Question) -> dict[str, Any]:
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.prompt})
    body: dict[str, Any] = {"model": options.model, "messages": messages, "stream": options.stream}
    limit = options.max_tokens or question.max_tokens
    if options.api is Api.OPENAI_CHAT:
        if options.stream:
            body["stream_options"] = {"include_usage": True}
        if limit:
            body["max_tokens"] = limit
        if options.temperature is not None:
            body["temperature"] = options.temperature
        return body
    settings = {"num_predict": limit, "temperature": options.temperature}
    given = {name: value for name, value in settings.items() if value is not None}
    return body | ({"options": given} if given else {})
