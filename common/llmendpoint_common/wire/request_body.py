"""Reader for request bodies. It finds the model by the rules of Ollama's own decoders, whatever the body contains.

Limits depend on the model, and so do metrics. Therefore every body that Ollama accepts is accepted here, and the same
model is found in it. A body that Ollama refuses has any result, because it runs no model. RequestBodyError is raised
only if Ollama could accept a body and its model is not certain.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

import msgspec

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.content_coding import ZstdReader
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.form import MultipartForm, UrlencodedForm, form_reader
from llmendpoint_common.wire.json_fields import MAX_VALUE_BYTES, STEP_BYTES, STOP_COST_BYTES
from llmendpoint_common.wire.pieces import Pieces
from llmendpoint_common.wire.request_fields import RequestFields

#: Maximum size of a request body that is held, and of a decompressed one. Ollama also decodes it in memory.
MAX_REQUEST_BODY_BYTES = 64 * 1024 * 1024
#: Argument of `BodyReader.work` between two turns of an event loop. Measured on one core: 0.1 to 0.5 ms for ordinary
#: bodies, and at most 4.3 ms for the worst one that was found (a string of escaped quotes and names).
SLICE_BYTES = 4 * STEP_BYTES
#: Maximum size of a JSON body that is decoded in one go.
_SMALL_BYTES = 64 * 1024
#: Least cost of a step, in bytes. A step of zstd can return nothing.
_MIN_COST_BYTES = 4 * 1024

_Reader: TypeAlias = RequestFields | MultipartForm | UrlencodedForm


class RequestFacts(NamedTuple):
    """What a body says.

    `model` is the name as the client sent it, or empty. `names_model`: the body is a JSON object or a form that has the
    field `model`. `usage_offset` is the place where `usage_filter.ask_for_usage` changes the body, or -1 if this was
    not asked for, or if the body asks for no stream, already asks for its usage, or is compressed.
    """

    model: str = ""
    names_model: bool = False
    usage_offset: int = -1


class BodyReader:
    """Reads the body of one request piece by piece.

    `form` tells what the route reads: JSON, whatever the Content-Type is (False); a multipart form (True); or unknown
    (None), so that the body is read as JSON and also as the form that its Content-Type declares. `query` is the query
    string of the request, in which a form can have fields. `usage`: `RequestFacts.usage_offset` is needed.

    `feed` keeps the bytes, and `work` reads them. Beside them, a reader holds at most 16 KiB, or 100 KiB for a form,
    and while it decompresses, a window of at most 8 MiB.
    """

    __slots__ = (
        "_coding",
        "_content_type",
        "_decompressed_bytes",
        "_error",
        "_form",
        "_json",
        "_pieces",
        "_query",
        "_readers",
        "_usage",
        "_zstd",
    )

    def __init__(
        self,
        content_type: bytes = b"",
        coding: bytes = b"",
        *,
        form: bool | None = False,
        query: bytes = b"",
        usage: bool = False,
    ) -> None:
        self._content_type, self._coding, self._query = content_type, coding, query
        self._form, self._usage = form, usage
        self._pieces = Pieces()
        #: What reads the decoded bytes. None until something was read, because most bodies are small.
        self._readers: list[_Reader] | None = None
        self._json: RequestFields | None = None
        self._zstd: ZstdReader | None = None
        self._decompressed_bytes = 0
        self._error: RequestBodyError | None = None

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
        is_small = self._readers is None and self._pieces.size <= _SMALL_BYTES
        if is_small and self._form is False and not self._coding:
            body = self._pieces.take_all()
            facts = _read_small_with_usage(body) if self._usage else _read_small(body)
            if facts is not None:
                return facts
            self._pieces.add(body)
        readers = self._open()
        while self._error is None and (self._pieces.size or (self._zstd is not None and self._zstd.has_more)):
            self._step()
        if self._error is not None:
            raise self._error
        if self._zstd is not None:
            self._zstd.finish()
        for reader in readers:
            reader.finish()
        return self._facts(readers)

    @property
    def decompressed_bytes(self) -> int:
        """Number of bytes of a compressed body that were read, without its coding. 0 for any other body."""
        return self._decompressed_bytes

    # ---- inside

    def _open(self) -> list[_Reader]:
        """Create the readers, once."""
        readers = self._readers
        if readers is None:
            readers = self._readers = []
            try:
                if _is_zstd(self._coding):
                    self._zstd = ZstdReader(self._pieces)
                if self._form is not True:
                    self._json = RequestFields(self._usage)
                    readers.append(self._json)
                if self._form is not False:
                    form = form_reader(self._content_type, self._query, is_required=self._form is True)
                    readers += [] if form is None else [form]
            except RequestBodyError as error:
                self._fail(error)
        return readers

    def _fail(self, error: RequestBodyError) -> None:
        self._error = error
        self._pieces.clear()

    def _has_step(self) -> bool:
        if self._error is not None:
            return False
        if self._coding and self._readers is None:
            self._open()
        return self._pieces.size >= STEP_BYTES or (self._zstd is not None and self._zstd.has_more)

    def _step(self) -> int:
        """Read one piece, and return its cost in bytes."""
        readers = self._open()
        before = 0 if self._json is None else self._json.scanner.stops
        data = b""
        try:
            data = self._pieces.take(STEP_BYTES) if self._zstd is None else self._decompress(self._zstd)
            for reader in readers:
                reader.feed(data)
        except RequestBodyError as error:
            self._fail(error)
        stops = 0 if self._json is None else self._json.scanner.stops - before
        return max(len(data) + stops * STOP_COST_BYTES, _MIN_COST_BYTES)

    def _decompress(self, zstd: ZstdReader) -> bytes:
        data = zstd.read(STEP_BYTES)
        self._decompressed_bytes += len(data)
        if self._decompressed_bytes > MAX_REQUEST_BODY_BYTES:
            raise RequestBodyError(f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB")
        return data

    def _facts(self, readers: list[_Reader]) -> RequestFacts:
        is_object = self._json is not None and self._json.scanner.end >= 0
        # An object is JSON that curl declares as a form.
        if not is_object and any(isinstance(reader, UrlencodedForm) and reader.is_cut for reader in readers):
            raise RequestBodyError("the form is too long")
        named = [reader for reader in readers if reader.names_model]
        if len({reader.model for reader in named}) > 1:
            raise RequestBodyError("the body names different models as JSON and as a form")
        offset = -1 if self._json is None or self._zstd is not None else self._json.usage_offset
        return RequestFacts(named[0].model if named else "", bool(named), offset)


def read_request_body(
    body: bytes,
    content_type: bytes = b"",
    coding: bytes = b"",
    *,
    form: bool | None = False,
    query: bytes = b"",
    usage: bool = False,
) -> RequestFacts:
    """Return what a complete body says. The arguments and errors are those of BodyReader.

    For a body of more than SLICE_BYTES, a BodyReader does the same in slices.
    """
    if form is False and not coding:
        facts = _read_small_with_usage(body) if usage else _read_small(body)
        if facts is not None:
            return facts
    reader = BodyReader(content_type, coding, form=form, query=query, usage=usage)
    reader.feed(body)
    return reader.finish()


class _Named(msgspec.Struct, gc=False):
    model: str = ""


class _Options(msgspec.Struct, gc=False):
    include_usage: bool = False


class _Streamed(msgspec.Struct, gc=False):
    stream: bool = False
    stream_options: _Options | None = None


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_streamed = msgspec.json.Decoder(_Streamed).decode
_UNDECODED = (*UNREADABLE, RecursionError)
_BACKSLASH = ord("\\")
#: Escapes of ASCII letters and of the underscore, in lower case.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_LONG_S = (b"\xc5\xbf", b"\\u017f")


def _read_small(body: bytes) -> RequestFacts | None:
    """Return what an ordinary small body says, or None if it has to be read by RequestFields.

    msgspec accepts less than Go, and only the exact spelling of a name. If `model` is spelled in no other way, it finds
    the same value. It takes 1 µs for 300 bytes, of which 0.3 µs are the decoder.
    """
    if len(body) > _SMALL_BYTES:
        return None
    try:
        model = _decode_named(body).model
    except _UNDECODED:
        return None
    lower = body.lower()
    spellings = lower.count(b'"model"')
    if (
        (spellings != 1 and spellings != body.count(b'"model"') if model else spellings)
        or len(model) > MAX_VALUE_BYTES
        or (_BACKSLASH in body and _ESCAPED_LETTER.search(lower))
    ):
        return None
    # Half the time of a call of RequestFacts.
    return tuple.__new__(RequestFacts, (model, model != "", -1))


def _read_small_with_usage(body: bytes) -> RequestFacts | None:
    """Do the same, and find the place where usage can be requested."""
    facts = _read_small(body)
    lower = body.lower()
    if (
        facts is None
        or lower.count(b'"stream_options"') > 1
        or any(lower.count(name) != body.count(name) for name in (b'"stream', b'"include_usage"'))
        or any(spelling in lower for spelling in _LONG_S)
    ):
        return None
    try:
        fields = _decode_streamed(body)
    except _UNDECODED:
        return None
    if not fields.stream or (fields.stream_options is not None and fields.stream_options.include_usage):
        return facts
    return RequestFacts(facts.model, facts.names_model, body.rfind(b"}"))


def _is_zstd(coding: bytes) -> bool:
    name = coding.strip().lower()
    if name not in (b"", b"identity", b"zstd"):
        raise RequestBodyError("the Content-Encoding is not supported; only zstd is supported")
    return name == b"zstd"
