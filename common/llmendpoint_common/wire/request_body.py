"""What a request's body asks for, read as Ollama reads it, so that a limit and the server see the same model."""

from __future__ import annotations

from email.parser import BytesParser
from typing import NamedTuple

import msgspec
import zstandard

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE

#: Ollama decodes one JSON value in memory; so a request with a model in it has a bound.
MAX_REQUEST_BODY_BYTES = 64 * 1024 * 1024


class RequestBody(NamedTuple):
    """The model's name as the client wrote it (empty where there is none), and the JSON object's fields."""

    model: str
    fields: dict[str, msgspec.Raw]


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_name = msgspec.json.Decoder(str | None).decode


def read_request_body(body: bytes, content_type: bytes, coding: bytes) -> RequestBody:
    """Return what a body asks for; RequestBodyError where that is not certain.

    Go's decoder takes field names in any case (encoding/json, Unmarshal), so two spellings of one are refused.
    """
    if coding:
        body = _decoded(body, coding.strip().lower())
    if content_type.lower().startswith(b"multipart/form-data"):
        return RequestBody(_form_model(body, content_type), {})
    try:
        fields = _decode_object(body)
        names = [name for name in fields if name.lower() == "model"]
        if len(names) > 1:
            raise RequestBodyError("the body names its model twice")
        model = _decode_name(fields[names[0]]) if names else None
    except UNREADABLE as error:
        raise RequestBodyError("the body is not one JSON object with a model in it") from error
    return RequestBody(model or "", fields)


def _decoded(body: bytes, coding: bytes) -> bytes:
    """Return a body without its content coding; only Ollama's own (zstd), and only up to the bound."""
    if coding == b"identity":
        return body
    if coding != b"zstd":
        raise RequestBodyError("the body has a content coding other than zstd")
    try:
        with zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).stream_reader(body) as reader:
            whole = reader.read(MAX_REQUEST_BODY_BYTES + 1)
    except zstandard.ZstdError as error:
        raise RequestBodyError("the body is not valid zstd") from error
    if len(whole) > MAX_REQUEST_BODY_BYTES:
        raise RequestBodyError(f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB")
    return bytes(whole)


def _form_model(body: bytes, content_type: bytes) -> str:
    """Return the field `model` of a form (RFC 7578)."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    values = [
        part.get_payload(decode=True)
        for part in (message.get_payload() if message.is_multipart() else [])
        if not isinstance(part, str) and part.get_param("name", header="content-disposition") == "model"
    ]
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise RequestBodyError("the form has not exactly one field `model`")
    return values[0].strip().decode(errors="replace")
