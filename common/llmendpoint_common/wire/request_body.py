"""Reader for request bodies. It finds the model by the rules of Ollama's own decoders, whatever the body contains.

Limits depend on the model, and so do metrics. Therefore every body that Ollama accepts is accepted here, and the same
model is found in it. A body that Ollama refuses has any result, because it runs no model. RequestBodyError is raised
only if Ollama could accept a body and its model is not certain.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.content_coding import ZstdReader
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.form import MultipartForm, UrlencodedForm, form_reader
from llmendpoint_common.wire.json_fields import STEP_BYTES
from llmendpoint_common.wire.pieces import Pieces
from llmendpoint_common.wire.request_fields import RequestFields

#: Maximum size of a decoded request body. Ollama also decodes it in memory.
MAX_REQUEST_BODY_BYTES = 64 * 1024 * 1024
#: Argument of `BodyReader.work` between two turns of an event loop.
SLICE_BYTES = 4 * STEP_BYTES
#: Maximum size of a JSON body that is decoded in one go.
_SMALL_BYTES = 64 * 1024
#: Least cost of a step, in bytes. A step of zstd can return nothing.
_MIN_COST_BYTES = 4 * 1024

_Reader: TypeAlias = RequestFields | MultipartForm | UrlencodedForm


class RequestFacts(NamedTuple):
    """What a body says.

    `model` is the name as the client sent it, or empty. `names_model`: the body is a JSON object or a form that has the
    field `model`. `usage_offset` is the place where `usage_filter.ask_for_usage` changes the body, or -1 if the body
    asks for no stream, already asks for its usage, or is compressed.
    """

    model: str = ""
    names_model: bool = False
    usage_offset: int = -1


class BodyReader:
    """Reads the body of one request piece by piece.

    `form` tells what the route reads: JSON, whatever the Content-Type is (False); a multipart form (True); or unknown
    (None), so that the body is read as JSON and also as the form that its Content-Type declares. `query` is the query
    string of the request, in which a form can have fields.

    `feed` keeps the bytes, and `work` reads them. Beside them, a reader holds at most 16 KiB, or 100 KiB for a form,
    and while it decompresses, a window of at most 8 MiB.
    """

    __slots__ = ("_error", "_json", "_pieces", "_read_bytes", "_readers", "_zstd")

    def __init__(
        self, content_type: bytes = b"", coding: bytes = b"", *, form: bool | None = False, query: bytes = b""
    ) -> None:
        self._pieces = Pieces()
        self._zstd: ZstdReader | None = None
        self._json = None if form is True else RequestFields()
        self._readers: list[_Reader] = [] if self._json is None else [self._json]
        #: Number of decoded bytes that were read.
        self._read_bytes = 0
        self._error: RequestBodyError | None = None
        try:
            if _is_zstd(coding):
                self._zstd = ZstdReader(self._pieces)
            reader = None if form is False else form_reader(content_type, query, is_required=form is True)
            self._readers += [] if reader is None else [reader]
        except RequestBodyError as error:
            self._error = error

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the body, split anywhere. It takes constant time."""
        if self._error is None:
            self._pieces.add(data)

    def work(self, limit_bytes: int) -> bool:
        """Read about so many decoded bytes. Returns whether there is more to read now.

        A rest below 16 KiB is left to the next call or to `finish`, so that tiny pieces cost no more than large ones.
        """
        left = limit_bytes
        while left > 0 and self._has_step():
            left -= self._step()
        return self._has_step()

    def finish(self) -> RequestFacts:
        """Read the rest, and return what the body says. If the body can be large, `work` must be done before.

        Raises RequestBodyError if the body is in doubt.
        """
        if not self._read_bytes and self._json is not None and self._zstd is None and len(self._readers) == 1:
            body = self._pieces.take_all()
            facts = _read_small(body)
            if facts is not None:
                return facts
            self._pieces.add(body)
        while self._error is None and (self._pieces.size or (self._zstd is not None and self._zstd.has_output)):
            self._step()
        if self._error is not None:
            raise self._error
        if self._zstd is not None:
            self._zstd.finish()
        for reader in self._readers:
            reader.finish()
        return self._facts()

    @property
    def decoded_bytes(self) -> int:
        """Number of bytes of the body without its coding, after `finish`."""
        return self._read_bytes

    # ---- inside

    def _has_step(self) -> bool:
        if self._error is not None:
            return False
        return self._pieces.size >= STEP_BYTES or (self._zstd is not None and self._zstd.has_output)

    def _step(self) -> int:
        """Read one piece, and return its cost in bytes."""
        try:
            data = self._pieces.take(STEP_BYTES) if self._zstd is None else self._zstd.read(STEP_BYTES)
            self._read_bytes += len(data)
            if self._read_bytes > MAX_REQUEST_BODY_BYTES:
                raise RequestBodyError(f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB")
            for reader in self._readers:
                reader.feed(data)
        except RequestBodyError as error:
            self._error = error
            self._pieces.clear()
            return _MIN_COST_BYTES
        return max(len(data), _MIN_COST_BYTES)

    def _facts(self) -> RequestFacts:
        named = [reader for reader in self._readers if reader.names_model]
        if len({reader.model for reader in named}) > 1:
            raise RequestBodyError("the body names different models as JSON and as a form")
        offset = -1 if self._json is None or self._zstd is not None else self._json.usage_offset
        return RequestFacts(named[0].model if named else "", bool(named), offset)


def read_request_body(
    body: bytes, content_type: bytes = b"", coding: bytes = b"", *, form: bool | None = False, query: bytes = b""
) -> RequestFacts:
    """Return what a complete body says. The arguments and errors are those of BodyReader.

    For a body of more than SLICE_BYTES, a BodyReader does the same in slices.
    """
    if form is False and not coding:
        facts = _read_small(body)
        if facts is not None:
            return facts
    reader = BodyReader(content_type, coding, form=form, query=query)
    reader.feed(body)
    return reader.finish()


class _Options(msgspec.Struct):
    include_usage: bool = False


class _SmallBody(msgspec.Struct):
    model: str = ""
    stream: bool = False
    stream_options: _Options | None = None


_decode_small = msgspec.json.Decoder(_SmallBody).decode


def _read_small(body: bytes) -> RequestFacts | None:
    """Return what an ordinary small body says, or None if it has to be read by RequestFields.

    msgspec is stricter than Go, and finds only exact spellings. The result is Go's if all names of fields are spelled
    exactly: in lower case, without the escape of a letter (`\u004d` to `\u0075`), and without the long s.
    """
    if len(body) > _SMALL_BYTES:
        return None
    lower = body.lower()
    for name in _NAMES:
        if lower.count(name) != body.count(name):
            return None
    if b"\\u00" in lower or b"\xc5\xbf" in body or b"\\u017f" in lower:
        return None
    try:
        fields = _decode_small(body)
    except (*UNREADABLE, RecursionError):
        return None
    model = fields.model
    offset = -1
    if fields.stream and (fields.stream_options is None or not fields.stream_options.include_usage):
        offset = body.rfind(b"}")
    return RequestFacts(model, bool(model), offset)


_NAMES = (b'"model"', b'"stream', b'"include_usage"')


def _is_zstd(coding: bytes) -> bool:
    name = coding.strip().lower()
    if name not in (b"", b"identity", b"zstd"):
        raise RequestBodyError("the Content-Encoding is not supported; only zstd is supported")
    return name == b"zstd"
