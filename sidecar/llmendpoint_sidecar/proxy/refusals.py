"""Answers of the proxy itself: Ollama's error shape, and OpenAI's under /v1."""

from __future__ import annotations

import json
from http import HTTPStatus

from llmendpoint_sidecar.wire import http1


def refusal(status: HTTPStatus, sentence: str, target: bytes, *, close: bool) -> bytes:
    """Return a whole response whose JSON body holds `sentence` where the client of `target` looks for it."""
    if target.startswith(b"/v1/"):
        kind = "api_error" if status >= 500 else "invalid_request_error"
        body = {"error": {"message": sentence, "type": kind, "param": None, "code": None}}
    else:
        body = {"error": sentence}  # type: ignore[dict-item]
    data = json.dumps(body).encode()
    headers = [
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"Content-Length", b"%d" % len(data)),
    ]
    if close:
        headers.append((b"Connection", b"close"))
    return http1.write_head(b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), headers) + data
