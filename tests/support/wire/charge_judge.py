"""What Ollama would make of a request, judged independently of the product: its route, its model, and its answer.

Everything here is deliberately simple, and shares no code with the readers and tables of the product.
"""

from __future__ import annotations

import codecs
import email.parser
import email.policy
import json
import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

import h11
import zstandard

#: The one model that the tenants with `allowedModels` may use, in all spellings with which Ollama finds it.
ALLOWED = "m:latest"
_ALLOWED = re.compile(
    r"(?:(?:.*?://)?registry\.ollama\.ai/)?(?:library/)?m(?::latest)?", re.IGNORECASE | re.ASCII | re.DOTALL
)
#: Depth to which Go's encoding/json reads.
_GO_DEPTH = 10_000
#: Number of fields `model` that every reader of the product accepts.
_OFTEN = 64

# Go replaces each byte that is not UTF-8.
codecs.register_error("each", lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]

_RUNS = {
    b"/api/generate": "ollama", b"/api/chat": "ollama", b"/api/embed": "embed", b"/api/embeddings": "embeddings",
    b"/v1/chat/completions": "openai", b"/v1/completions": "openai", b"/v1/embeddings": "openai_embeddings",
    b"/v1/responses": "responses", b"/v1/messages": "messages", b"/v1/audio/transcriptions": "text",
    b"/v1/images/generations": "images", b"/v1/images/edits": "images",
}  # fmt: skip
_READS = frozenset({b"/", b"/api/tags", b"/api/ps", b"/api/version", b"/api/status", b"/v1/models", b"/api/experimental/aliases"})  # fmt: skip
_MANAGES = frozenset({
    b"/api/pull", b"/api/push", b"/api/create", b"/api/copy", b"/api/me", b"/api/signout",
    b"/api/experimental/aliases", b"/api/experimental/web_search", b"/api/experimental/web_fetch",
})  # fmt: skip
_SHAPES = ("ollama", "openai", "responses", "messages", "text")


class Request(NamedTuple):
    """A request as h11 reads it. `body` is incomplete if `complete` is False. Names of `fields` are in lower case."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool

    @property
    def path(self) -> bytes:
        """The path as Go's router sees it."""
        target = re.sub(rb"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?]*", b"", self.target)
        path = unquote_to_bytes(target.partition(b"?")[0])
        return path if path.startswith(b"/") or path == b"*" else b"/" + path

    @property
    def query(self) -> bytes:
        """The query string."""
        return self.target.partition(b"?")[2]

    def all(self, name: bytes) -> list[bytes]:
        """Return all values of a field."""
        return [value for key, value in self.fields if key == name]

    def last(self, name: bytes) -> bytes:
        """Return the last value of a field, or nothing."""
        return (self.all(name) or [b""])[-1]

    @property
    def is_counted(self) -> bool:
        """Whether the request counts for quotas."""
        return self.method not in (b"GET", b"HEAD", b"OPTIONS")


def read_request(data: bytes) -> Request | None:
    """Return the first request, or None if its head is not valid HTTP for h11."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    head: h11.Request | None = None
    body = b""
    try:
        first = connection.next_event()
        if not isinstance(first, h11.Request):
            return None
        head = first
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
        complete = isinstance(event, h11.EndOfMessage)
    except h11.RemoteProtocolError:
        complete = False
    return None if head is None else Request(head.method, head.target, tuple(head.headers), body, complete)


# ---- routes


def kind_of(request: Request) -> str:
    """Return what a request does: `run`, `read`, `manage`, or `unknown` if only its body tells."""
    method, path = request.method, request.path
    if method != b"POST":
        is_got = method in (b"GET", b"HEAD") and (path in _READS or path.startswith(b"/v1/models/"))
        return "read" if is_got or method == b"OPTIONS" else "manage"
    if path in _RUNS:
        return "run"
    if path in _MANAGES or path.startswith((b"/api/blobs/", b"/api/user/")):
        return "manage"
    return "read" if path == b"/api/show" else "unknown"


def reads_forms(request: Request) -> bool:
    """Return whether the body can be a form."""
    if request.path == b"/v1/audio/transcriptions":
        return True
    kind = request.last(b"content-type").lower()
    return kind_of(request) == "unknown" and (b"multipart" in kind or b"urlencoded" in kind)


# ---- models


def is_allowed(model: str) -> bool:
    """Return whether a name is one of the allowed model, or none at all."""
    return not model or _ALLOWED.fullmatch(model) is not None


class Reading(NamedTuple):
    """The model that a body names.

    `plain`: no reader can be in doubt about it. `often`: the body names it so often that a reader may give up.
    """

    model: str
    named: bool
    plain: bool
    often: bool = False


@lru_cache(maxsize=4)
def decoded(request: Request) -> bytes | None:
    """Return the body without its coding, as far as it can be decoded. None if Ollama does not know the coding."""
    codings = [value.strip().lower() for value in request.all(b"content-encoding")]
    if codings in ([], [b""], [b"identity"]):
        return request.body
    if codings != [b"zstd"]:
        return None
    found, rest = b"", request.body
    while rest and len(found) < 1 << 22:
        reader, before = zstandard.ZstdDecompressor().decompressobj(), len(rest)
        try:
            found += reader.decompress(rest)
        except zstandard.ZstdError:
            return found
        rest = reader.unused_data
        if not reader.eof or len(rest) >= before:
            break
    return found


@lru_cache(maxsize=4)
def read_models(request: Request) -> list[Reading]:
    """Return each reading of a body that is certain. None at all if Ollama refuses the body or nobody can tell."""
    body = decoded(request)
    if body is None or len(request.all(b"content-type")) > 1:
        return []
    found = []
    if request.path != b"/v1/audio/transcriptions":
        reading = _read_json(body)
        found += [] if reading is None else [reading]
    if reads_forms(request):
        reading = _read_form(request, body)
        found += [] if reading is None else [reading]
    return found


def _read_json(body: bytes) -> Reading | None:
    text = _shallow(body).decode("utf-8", "each")
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse)
    try:
        value, _ = decoder.raw_decode(text.lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, _Pairs):
        return Reading("", False, plain=False) if value is None else None
    values = [(name, one) for name, one in value if name.lower() == "model"]
    if any(not isinstance(one, str | None) for _, one in values):
        return None  # Go refuses other types.
    models = [_as_go(one) for _, one in values if one is not None]
    model = models[-1] if models else ""
    plain = all(name == "model" for name, _ in values) and len(values) <= 1 and len(model.encode()) <= 1024
    return Reading(model, bool(values), plain, often=len(values) > _OFTEN)


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, in their order."""


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _as_go(text: str) -> str:
    """Return a string as Go decodes it: lone surrogates are replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shallow(body: bytes) -> bytes:
    """Return a body whose long runs of nested values are replaced by one value, as Python cannot read them."""
    if b"[" * 200 not in body and b'{"a":' * 200 not in body:
        return body
    body = re.sub(rb"(\[{200,}+)(\]*+)", lambda found: _peeled(found, 1), body)
    return re.sub(rb'((?:\{"a":){200,}+)1?(\}*+)', lambda found: _peeled(found, 5), body)


def _peeled(found: re.Match[bytes], size: int) -> bytes:
    opened, closed = len(found[1]) // size, len(found[2])
    # Beyond Go's depth, or without its end, the value is not valid.
    return b"1" if opened == closed < _GO_DEPTH else b"!"


def _read_form(request: Request, body: bytes) -> Reading | None:
    kind = request.last(b"content-type")
    if b"model" in unquote_to_bytes(request.query):
        return None
    if b"urlencoded" in kind.lower():
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
        models = [value for name, value in pairs if name == "model"]
        return Reading(models[0], True, plain=False) if models else None
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: %b\r\n\r\n%b" % (kind, body)
    )
    parts = [part for part in message.walk() if part.get_param("name", header="content-disposition") == "model"]
    if not message.is_multipart() or any(part.defects for part in message.walk()) or len(parts) != 1:
        return None
    if parts[0]["content-transfer-encoding"] is not None:
        return None
    payload = parts[0].get_payload(decode=True)
    return Reading(payload.decode("utf-8", "each"), True, plain=False) if isinstance(payload, bytes) else None


# ---- answers


class Answer(NamedTuple):
    """An answer of the upstream, in pieces. `tokens` are those that it reports. `then`: who leaves at the end."""

    pieces: tuple[bytes, ...]
    tokens: int | None
    status: int
    then: str = ""


#: Ways to answer: complete with usage, without, refused, failed, and cut off by either side.
WAYS = ("whole", "stream", "silent", "refused", "failed", "cut", "left", "gone", "odd")
_PROMPT, _GENERATED = 7, 3


def answer_to(request: Request, forwarded: bytes, way: str) -> Answer:
    """Return the answer of an Ollama to a request. `forwarded` is the body that it got."""
    shape = _RUNS.get(request.path, "none") if request.method == b"POST" else "none"
    if kind_of(request) == "unknown":
        shape = _SHAPES[len(request.path) % len(_SHAPES)]
    if way in ("refused", "failed"):
        status = 404 if way == "refused" else 500
        return _whole(request, status, b'{"error":"no"}', None)
    if way == "odd":
        return _whole(request, 200, b'{"usage":[[[{"x":"\xff', None)
    if way == "gone":
        return Answer((), None, 0, "left")
    if way == "whole" or shape in ("none", "text", "images", "embed", "embeddings", "openai_embeddings"):
        if way in ("cut", "left"):
            body, _ = _OBJECTS[shape]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (len(body) + 9)
            return Answer((head,), None, 200, way)
        return _whole(request, 200, *(_OBJECTS[shape] if way != "silent" else (b'{"done":true}', None)))
    return _stream(request, forwarded, shape, way)


_OBJECTS: dict[str, tuple[bytes, int | None]] = {
    "ollama": (b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":3}', 10),
    "embed": (b'{"model":"m","embeddings":[[0.5]],"prompt_eval_count":7}', 7),
    "embeddings": (b'{"embedding":[0.5]}', None),
    "openai": (b'{"model":"m","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}', 10),
    "openai_embeddings": (b'{"model":"m","data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}', 7),
    "responses": (b'{"model":"m","status":"completed","usage":{"input_tokens":7,"output_tokens":3}}', 10),
    "messages": (b'{"model":"m","stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":3}}', 10),
    "text": (b'{"text":"hello"}', None),
    "images": (b'{"data":[{"b64_json":"AAAA"}]}', None),
    "none": (b'{"status":"success"}', None),
}  # fmt: skip


def _whole(request: Request, status: int, body: bytes, tokens: int | None) -> Answer:
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return Answer((head,) if request.method == b"HEAD" else (head, body), tokens, status)


def _stream(request: Request, forwarded: bytes, shape: str, way: str) -> Answer:
    tokens: int | None = _PROMPT + _GENERATED
    if shape == "ollama":
        kind, events = b"application/x-ndjson", [
            b'{"model":"m","message":{"content":"a"},"response":"a","done":false}\n',
            b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":3}\n',
        ]  # fmt: skip
    elif shape == "openai":
        kind, events = b"text/event-stream", [
            b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n',
            b'data: {"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
            b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n',
            b"data: [DONE]\n\n",
        ]  # fmt: skip
        if b'"include_usage":true' not in forwarded:
            del events[2]
            tokens = None
    elif shape == "responses":
        kind, events = b"text/event-stream", [
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
            b'event: response.completed\ndata: {"type":"response.completed","response":{"model":"m",'
            b'"status":"completed","usage":{"input_tokens":7,"output_tokens":3}}}\n\n',
        ]  # fmt: skip
    else:
        kind, events = b"text/event-stream", [
            b'event: message_start\ndata: {"type":"message_start","message":{"model":"m",'
            b'"usage":{"input_tokens":7,"output_tokens":0}}}\n\n',
            b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n',
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
            b'"usage":{"input_tokens":7,"output_tokens":3}}\n\n',
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ]  # fmt: skip
    if way != "stream":
        events, tokens = events[:1], None
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
    pieces = [head, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events)]
    if way in ("cut", "left"):
        return Answer(tuple(pieces), None, 200, way)
    return Answer((*pieces, b"0\r\n\r\n"), tokens, 200)
