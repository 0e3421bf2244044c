"""Writes the requests of a run: each question becomes the bytes of an HTTP request."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from llmendpoint_common.contracts.loadrun import Api, RunDocument
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.routes import path_of_operation
from llmendpoint_loadjob.dataset.questions import Question

#: Operation of the requests by API. It determines their path and the dialect of the responses.
OPERATIONS = {Api.OLLAMA_CHAT: Operation.CHAT, Api.OPENAI_CHAT: Operation.OPENAI_CHAT}


@dataclass(frozen=True)
class Target:
    """Address of a model server. `prefix` is the path of its base URL."""

    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(text: str) -> Target:
    """Parse a base URL such as `http://127.0.0.1:11435`. Raises ValueError if it is not a URL."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL; write it like http://127.0.0.1:11435")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    # Base URLs for OpenAI's API usually end with /v1, base URLs for Ollama's API do not.
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Target(parts.hostname, port, prefix, tls)


class RequestWriter:
    """Writes the requests of a run. If there is an API key, it is sent as a bearer token."""

    def __init__(self, target: Target, document: RunDocument, api_key: str | None = None) -> None:
        self._api = document.target.api
        self._model = document.model
        self._request = document.request
        self._line = f"POST {target.prefix}{path_of_operation(OPERATIONS[self._api])} HTTP/1.1".encode()
        self._headers = [(b"Host", target.authority.encode()), (b"Content-Type", b"application/json")]
        if api_key:
            self._headers.append((b"Authorization", b"Bearer " + api_key.encode()))

    def write(self, question: Question, request_id: str) -> bytes:
        """Return the head and body of one request."""
        body = msgspec.json.encode(self._body(question))
        headers = [
            *self._headers,
            (b"Content-Length", b"%d" % len(body)),
            (REQUEST_ID_HEADER.encode(), request_id.encode()),
        ]
        return heads.write_head(self._line, headers) + body

    def _body(self, question: Question) -> dict[str, Any]:
        request = self._request
        messages = [{"role": "system", "content": question.system}] if question.system else []
        messages.append({"role": "user", "content": question.prompt})
        body: dict[str, Any] = {"model": self._model, "messages": messages, "stream": request.stream}
        limit = request.max_tokens or question.max_tokens
        if self._api is Api.OPENAI_CHAT:
            if request.stream:
                body["stream_options"] = {"include_usage": True}
            return body | _given(max_tokens=limit, temperature=request.temperature)
        options = _given(num_predict=limit, temperature=request.temperature)
        return body | ({"options": options} if options else {})


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
