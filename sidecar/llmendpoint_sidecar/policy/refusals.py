"""Errors of the proxy itself, in the error format of the client's API: whole responses, and the end of a stream."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import Outcome, RefusalReason
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


class Refusal(NamedTuple):
    """An error response of the proxy itself: message for the client, outcome for the meter, Retry-After in seconds.

    `reason` is None if the upstream failed, except if it is hung. `tenant` is empty if it is not known.
    """

    status: HTTPStatus
    sentence: str
    outcome: Outcome
    retry_after: int | None = None
    reason: RefusalReason | None = None
    tenant: str = ""


def write_refusal(
    refusal: Refusal, target: bytes, cors: heads.Headers, *, close: bool, headers_only: bool = False
) -> bytes:
    """Return a complete response. Its JSON body has the message in the error format of the API to which `target`
    belongs.

    `cors` are additional headers. `close` announces the end of the connection. `headers_only` omits the body, for HEAD.
    """
    status = refusal.status
    data = json.dumps(_body(status, refusal.sentence, heads.path_of(target))).encode()
    headers = [
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"Content-Length", b"%d" % len(data)),
        *cors,
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"WWW-Authenticate", b"Bearer"))
    if refusal.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % refusal.retry_after))
    if close:
        headers.append((b"Connection", b"close"))
    head = heads.write_head(b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), headers)
    return head if headers_only else head + data


def write_stream_error(refusal: Refusal, target: bytes, content_type: bytes) -> bytes | None:
    """Return the error as the last piece of a stream that has begun, in the format of its API.

    None if the response is neither NDJSON nor a stream of events. Ollama, OpenAI and Anthropic send errors like this,
    and their client libraries raise them.
    """
    path = heads.path_of(target)
    body = _body(refusal.status, refusal.sentence, path)
    if content_type.startswith(b"application/x-ndjson"):
        return json.dumps(body).encode() + b"\n"
    if not content_type.startswith(b"text/event-stream"):
        return None
    if path.startswith(b"/v1/responses"):
        # The fields of an event `error`, and the object that OpenAI's libraries look for in every event.
        body = {"type": "error", "code": "server_error", "message": refusal.sentence, "param": None, **body}
    event = b"event: error\n" if "type" in body else b""
    return b"%bdata: %b\n\n" % (event, json.dumps(body).encode())


def _body(status: HTTPStatus, sentence: str, path: bytes) -> dict[str, object]:
    kind = "api_error" if status >= 500 else "invalid_request_error"
    if path.startswith(b"/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, kind), "message": sentence}}
    if path.startswith(b"/v1/"):
        openai, code = _OPENAI.get(status, (kind, None))
        return {"error": {"message": sentence, "type": openai, "param": None, "code": code}}
    return {"error": sentence}
