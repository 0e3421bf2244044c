"""Reader for request bodies. It finds the model by the rules of Ollama's own decoder.

Limits depend on the model. Therefore a body that Ollama could interpret differently is rejected.
"""

from __future__ import annotations

from email.parser import BytesParser
from typing import NamedTuple

import msgspec
import zstandard

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE

#: Maximum size of a request body that is buffered to determine its model. Ollama also decodes it in memory.
MAX_REQUEST_BODY_BYTES = 64 * 1024 * 1024


class RequestBody(NamedTuple):
    """The model name as sent by the client (empty if absent), and the undecoded fields of the JSON object."""

    model: str
    fields: dict[str, msgspec.Raw]


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_name = msgspec.json.Decoder(str | None).decode


def read_request_body(body: bytes, content_type: bytes, coding: bytes) -> RequestBody:
    """Return the model and the fields of a body.

    `coding` is the Content-Encoding. Go's decoder ignores the case of field names (encoding/json, Unmarshal), so a body
    with `model` in two different spellings is rejected. If the same spelling occurs twice, the last value is used, as
    in Go. Raises RequestBodyError if the model is ambiguous or the body cannot be decoded.
    """
    if coding:
        body = _decoded(body, coding.strip().lower())
    if content_type.lower().startswith(b"multipart/form-data"):
        return RequestBody(_form_model(body, content_type), {})
    try:
        fields = _decode_object(body)
        names = [name for name in fields if name.lower() == "model"]
        if len(names) > 1:
            raise RequestBodyError("the body has the field `model` in two spellings")
        model = _decode_name(fields[names[0]]) if names else None
    except UNREADABLE as error:
        raise RequestBodyError("the body must be a single JSON object in which `model` is a string") from error
    return RequestBody(model or "", fields)


def _decoded(body: bytes, coding: bytes) -> bytes:
    """Return a body without its content coding. As in Ollama, only zstd is supported.

    The decompressed size is at most MAX_REQUEST_BODY_BYTES.
    """
    if coding == b"identity":
        return body
    if coding != b"zstd":
        raise RequestBodyError("the Content-Encoding is not supported; only zstd is supported")
    try:
        with zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).stream_reader(body) as reader:
            whole = reader.read(MAX_REQUEST_BODY_BYTES + 1)
    except zstandard.ZstdError as error:
        raise RequestBodyError("the body is not valid zstd") from error
    if len(whole) > MAX_REQUEST_BODY_BYTES:
        raise RequestBodyError(f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB")
    return bytes(whole)


def _form_model(body: bytes, content_type: bytes) -> str:
    """Return the field `model` of a multipart form (RFC 7578)."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    values = [
        part.get_payload(decode=True)
        for part in (message.get_payload() if message.is_multipart() else [])
        if not isinstance(part, str) and part.get_param("name", header="content-disposition") == "model"
    ]
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise RequestBodyError("the form must have exactly one field `model`")
    return values[0].strip().decode(errors="replace")
