"""Forms that name a model: `multipart/form-data` (RFC 7578), and `application/x-www-form-urlencoded`.

Ollama reads forms with Go's mime/multipart and takes the first value of a field. Parsers of multipart bodies differ in
details: line ends, space after a boundary, continued headers, encoded names. Therefore only a form that every parser
reads in the same way is accepted. Everything else is in doubt, and gets 400. Clients do not send such forms.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.go_json import text_of
from llmendpoint_common.wire.json_fields import MAX_VALUE_BYTES

#: OpenAI's transcriptions have 12 fields. Go reads at most 1,000.
_MAX_PARTS = 100
_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 4 * 1024
#: Ollama reads no such form; the bound is that of common servers for query strings.
_MAX_URLENCODED_BYTES = 64 * 1024

_WORD = r"[A-Za-z0-9!#$%&'+.^_`|~-]+"
_PARAMETER = rf'[ \t]*;[ \t]*({_WORD}\*?)=({_WORD}|"(?:[^"\\]|\\.)*")'
_PARAMETERS = rf"((?:{_PARAMETER})*)[ \t]*;?[ \t]*"
_FORM_DATA = re.compile(rf"form-data{_PARAMETERS}", re.IGNORECASE)
_MULTIPART = re.compile(rf"multipart/form-data{_PARAMETERS}", re.IGNORECASE)
_EACH_PARAMETER = re.compile(_PARAMETER)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")


class MultipartForm:
    """Reads the field `model` of a multipart form."""

    __slots__ = (
        "_boundaries",
        "_delimiter",
        "_is_model",
        "_is_required",
        "_parser",
        "_parts",
        "_tail",
        "_value",
        "model",
        "names_model",
    )

    def __init__(self, content_type: bytes, *, is_required: bool) -> None:
        """Raises RequestBodyError if the Content-Type is not that of a plain multipart form."""
        found = _parameters(_MULTIPART, content_type.decode("latin-1").strip(" \t"))
        boundary = found.get("boundary", "")
        if not boundary or len(boundary) > 200 or "\\" in boundary or not boundary.isascii():
            raise RequestBodyError("the Content-Type must be multipart/form-data with one boundary")
        self._delimiter = b"--" + boundary.encode()
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=_MAX_HEADER_BYTES,
            max_header_count=_MAX_HEADERS,
            max_segment_count=_MAX_PARTS,
            header_charset="latin-1",
        )
        self._is_required = is_required
        self._parts = self._boundaries = 0
        #: The last bytes, which can be the beginning of a boundary.
        self._tail = b""
        self._is_model = False
        self._value = b""
        self.model = ""
        self.names_model = False

    def feed(self, piece: bytes) -> None:
        """Read the next bytes. Raises RequestBodyError if the form is in doubt."""
        if not piece:
            # A step of zstd can return nothing. For the parser, nothing is the end of the form.
            return
        searched = self._tail + piece
        self._boundaries += searched.count(self._delimiter)
        self._tail = searched[1 - len(self._delimiter) :]
        try:
            for event in self._parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event and self._is_model:
                    self._value += event
                    if len(self._value) > MAX_VALUE_BYTES:
                        _doubt(f"the name of the model is longer than {MAX_VALUE_BYTES} bytes")
        except MultipartError as error:
            raise RequestBodyError("the form cannot be read; it must be plain multipart/form-data") from error

    def finish(self) -> None:
        """Read the end. Raises RequestBodyError if the form is in doubt."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise RequestBodyError("the form is incomplete") from error
        if self._boundaries != self._parts + 1:
            _doubt("the boundary of the form also occurs in its content")
        if self._is_required and not self.names_model:
            _doubt("the form must have exactly one field `model`")
        self.model = text_of(self._value)

    def _begin(self, part: MultipartSegment) -> None:
        self._parts += 1
        headers: dict[str, str] = dict(part.headerlist)
        if len(headers) != len(part.headerlist) or any(map(_CONTROL.search, headers.values())):
            _doubt("a part of the form has ambiguous headers")
        found = _parameters(_FORM_DATA, headers.get("Content-Disposition", ""))
        name = found.get("name")
        if name is None or "\\" in name or any(key.endswith("*") and key != "filename*" for key in found):
            _doubt("a part of the form has no plain name")
        self._is_model = name == "model"
        if not self._is_model:
            return
        if self.names_model or "filename" in found or "filename*" in found:
            _doubt("the form must have exactly one field `model`")
        if headers.get("Content-Transfer-Encoding", "").lower() not in _PLAIN_ENCODINGS:
            _doubt("the field `model` must not have a transfer encoding")
        self.names_model = True


class UrlencodedForm:
    """Reads the field `model` of an urlencoded form. curl declares JSON as such a form if it is given no type."""

    __slots__ = ("_body", "is_cut", "model", "names_model")

    def __init__(self) -> None:
        self._body = bytearray()
        #: Whether the form is longer than what was read of it.
        self.is_cut = False
        self.model = ""
        self.names_model = False

    def feed(self, piece: bytes) -> None:
        """Read the next bytes. A form that is too long is read up to its bound."""
        if len(self._body) < _MAX_URLENCODED_BYTES:
            self._body += piece
        elif piece:
            self.is_cut = True

    def finish(self) -> None:
        """Read the end. Raises RequestBodyError if the form has several models."""
        values = _values(bytes(self._body), b"model")
        if len(values) > 1:
            _doubt("the form must have exactly one field `model`")
        self.names_model = bool(values)
        self.model = text_of(values[0]) if values else ""


def form_reader(content_type: bytes, query: bytes, *, is_required: bool) -> MultipartForm | UrlencodedForm | None:
    """Return a reader for a body of this Content-Type, or None if it is not a form.

    `is_required`: the route reads only multipart forms. Raises RequestBodyError if the form is in doubt. Go reads the
    fields of a form also from the query string, where they come first.
    """
    media_type = content_type.lower()
    reader: MultipartForm | UrlencodedForm | None
    if is_required or b"multipart" in media_type:
        reader = MultipartForm(content_type, is_required=is_required)
    elif b"urlencoded" in media_type:
        reader = UrlencodedForm()
    else:
        reader = None
    if _values(query, b"model"):
        _doubt("the model must be a field of the body, and not in the query string")
    return reader


def _parameters(pattern: re.Pattern[str], header: str) -> dict[str, str]:
    """Return the parameters of a header by their lower-case names, without quotes. Empty if the header is not plain."""
    match = pattern.fullmatch(header)
    pairs = _EACH_PARAMETER.findall(match[1]) if match else []
    found = {key.lower(): value.strip('"') for key, value in pairs}
    return found if len(found) == len(pairs) else {}


def _values(text: bytes, name: bytes) -> list[bytes]:
    """Return the values of a field in an urlencoded text."""
    pairs = [pair.partition(b"=") for pair in text.replace(b"+", b" ").split(b"&")]
    return [unquote_to_bytes(value) for key, _, value in pairs if unquote_to_bytes(key) == name]


def _doubt(sentence: str) -> NoReturn:
    raise RequestBodyError(sentence)
