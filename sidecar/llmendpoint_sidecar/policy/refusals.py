"""Answers of the proxy itself, in the error shape of the API that the client speaks."""

from __future__ import annotations

import json
from http import HTTPStatus

from llmendpoint_common.wire.http1 import heads

#: Anthropic's error types by status (docs.anthropic.com, errors).
_ANTHROPIC = {
    401: "authentication_error", 403: "permission_error", 413: "request_too_large", 429: "rate_limit_error",
    503: "overloaded_error",
}  # fmt: skip
#: OpenAI's `type` and `code` by status.
_OPENAI = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("api_error", "server_overloaded"),
}


def refusal(
    status: HTTPStatus,
    sentence: str,
    target: bytes,
    *,
    close: bool,
    headers_only: bool = False,
    retry: int | None = None,
) -> bytes:
    """Return a whole response whose JSON body holds `sentence` where the client of `target` looks for it.

    `retry` is Retry-After in seconds; an answer to HEAD has no body.
    """
    data = json.dumps(_body(status, sentence, heads.path_of(target))).encode()
    headers = [
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"Content-Length", b"%d" % len(data)),
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"WWW-Authenticate", b"Bearer"))
    if retry is not None:
        headers.append((b"Retry-After", b"%d" % retry))
    if close:
        headers.append((b"Connection", b"close"))
    head = heads.write_head(b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), headers)
    return head if headers_only else head + data


def _body(status: HTTPStatus, sentence: str, path: bytes) -> dict[str, object]:
    kind = "api_error" if status >= 500 else "invalid_request_error"
    if path.startswith(b"/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, kind), "message": sentence}}
    if path.startswith(b"/v1/"):
        openai, code = _OPENAI.get(status, (kind, None))
        return {"error": {"message": sentence, "type": openai, "param": None, "code": code}}
    return {"error": sentence}
