"""Fields of a JSON request body that the proxy needs, as Ollama's structs would hold them after decoding.

In Go, the last of repeated fields wins, and `null` leaves a field as it is. An object is decoded into the same struct
if its field is repeated, so options that the second one does not contain keep their value.
"""

from __future__ import annotations

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.go_json import unquote
from llmendpoint_common.wire.json_fields import MAX_VALUE_BYTES, FieldScanner, Kind, Member, Names

_MODEL = Names("model")
_ALL = Names("model", "stream", "stream_options")
_OPTIONS = Names("include_usage")
#: Clients send each field once. A repeated field takes 6 µs, so a body of nothing else would take seconds.
_MAX_OCCURRENCES = 64


class RequestFields:
    """Reads a JSON body. Bytes are fed in pieces of at most `json_fields.STEP_BYTES`."""

    __slots__ = ("_asks", "_exact", "_occurrences", "_streams", "_too_long", "model", "names_model", "scanner")

    def __init__(self, usage: bool = False) -> None:
        self.scanner = FieldScanner(_ALL if usage else _MODEL, self._set)
        self.model = ""
        self.names_model = False
        #: The value of a field that is spelled exactly `model`.
        self._exact = ""
        self._occurrences = 0
        self._too_long = self._streams = self._asks = False

    def feed(self, piece: bytes) -> None:
        """Read the next bytes of the body."""
        if not self.scanner.ended:
            self.scanner.feed(piece)

    def finish(self) -> None:
        """Read the rest after the end of the body.

        Raises RequestBodyError if the model's name is too long, or if Ollama could find two different models. Most of
        Ollama ignores the case of field names, but newer versions also look for a field that is spelled `model` to
        decide whether a model runs in the cloud (server/cloud_proxy.go).
        """
        self.scanner.finish()
        if self._too_long:
            raise RequestBodyError(f"the name of the model is longer than {MAX_VALUE_BYTES} bytes")
        if self._exact and self._exact != self.model:
            raise RequestBodyError("the body has the field `model` in two spellings with different values")

    @property
    def usage_offset(self) -> int:
        """The offset for `usage_filter.ask_for_usage`, or -1 if the body asks for no stream, or for its usage."""
        return self.scanner.end if self._streams and not self._asks else -1

    def _set(self, member: Member) -> None:
        self._occurrences += 1
        if self._occurrences > _MAX_OCCURRENCES:
            raise RequestBodyError("the body repeats a field too often")
        if member.name == "model":
            self._set_model(member)
        elif member.name == "stream":
            if member.kind is not Kind.NULL:
                self._streams = member.kind is Kind.TRUE
        elif member.kind is Kind.OBJECT:
            self._set_options(member.text)
        elif member.kind is Kind.NULL:
            self._asks = False

    def _set_model(self, member: Member) -> None:
        is_exact = unquote(member.spelling[1:-1]) == "model"
        if member.kind is Kind.NULL:
            self._exact = "" if is_exact else self._exact
            return
        self.names_model = True
        self._too_long |= member.kind is Kind.TOO_LONG
        self.model = (unquote(member.text[1:-1]) or "") if member.kind is Kind.STRING else ""
        if is_exact:
            self._exact = self.model

    def _set_options(self, text: bytes) -> None:
        scanner = FieldScanner(_OPTIONS, self._set_option)
        scanner.feed(text)
        scanner.finish()
        if scanner.end < 0:
            self._asks = True  # Unknown, because the object is too long. Then the body is not changed.

    def _set_option(self, member: Member) -> None:
        if member.kind is not Kind.NULL:
            self._asks = member.kind is not Kind.FALSE
