"""Reader for request bodies: the model that a request names, found by the rules of Ollama's own decoder.

Limits depend on the model, so a body that Ollama could read in another way is refused.
"""

from __future__ import annotations

from email.parser import BytesParser
from typing import NamedTuple

import msgspec
import zstandard

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE

#: Bound of a request body that has to be held until its model is known. Ollama decodes it in memory as well.
MAX_REQUEST_BODY_BYTES = 64 * 1024 * 1024


class RequestBody(NamedTuple):
    """Model name as the client wrote it, empty if there is none, and the fields of the JSON object, not decoded."""

    model: str
    fields: dict[str, msgspec.Raw]


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_name = msgspec.json.Decoder(str | None).decode


def read_request_body(body: bytes, content_type: bytes, coding: bytes) -> RequestBody:
    """Return the model and the fields of a body. RequestBodyError if the model is in doubt.

    `coding` is the Content-Encoding. Go's decoder ignores the case of field names (encoding/json, Unmarshal), so a body
    with two spellings of `model` is refused.
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
        raise RequestBodyError("the body is not one JSON object whose model is a string") from error
    return RequestBody(model or "", fields)


def _decoded(body: bytes, coding: bytes) -> bytes:
    """Return a body without its content coding. Only zstd is supported, as in Ollama, and only up to the bound."""
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
    """Return the field `model` of a multipart form (RFC 7578)."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    values = [
        part.get_payload(decode=True)
        for part in (message.get_payload() if message.is_multipart() else [])
        if not isinstance(part, str) and part.get_param("name", header="content-disposition") == "model"
    ]
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise RequestBodyError("the form has not exactly one field `model`")
    return values[0].strip().decode(errors="replace")
