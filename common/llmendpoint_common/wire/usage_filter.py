"""Token counts of OpenAI streams whose client did not request them (`metering.includeUsage: Inject`).

The request is changed so that it requests the usage, and the usage is removed from the response.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE

#: A longer event is passed on unchanged: an event that contains only usage is much shorter.
_MAX_EVENT_BYTES = 1024 * 1024
_END = b"\n\n"
_DATA = b"data: "

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def ask_for_usage(fields: Mapping[str, msgspec.Raw]) -> bytes | None:
    """Return a changed body that requests usage.

    None if the body does not request a stream, already requests usage, or cannot be decoded.
    """
    try:
        if not msgspec.json.decode(fields.get("stream", b"false"), type=bool):
            return None
        given = msgspec.json.decode(fields.get("stream_options", b"{}"), type=dict[str, msgspec.Raw] | None) or {}
    except UNREADABLE:
        return None
    if bytes(given.get("include_usage", b"false")) != b"false":
        return None
    options = msgspec.json.encode({**given, "include_usage": True})
    return msgspec.json.encode({**fields, "stream_options": msgspec.Raw(options)})


class UsageFilter:
    """Removes `usage` from the events of a stream, and events that contain only usage. Other events are unchanged."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the events that `data` completes, without their usage."""
        *events, self._rest = (self._rest + data).split(_END)
        if len(self._rest) > _MAX_EVENT_BYTES:
            passed, self._rest = self._rest, b""
        else:
            passed = b""
        return b"".join(map(_without_usage, events)) + passed

    def flush(self) -> bytes:
        """Return the bytes after the last complete event, and clear them."""
        rest, self._rest = self._rest, b""
        return rest


def _without_usage(event: bytes) -> bytes:
    if event.startswith(_DATA) and b'"usage"' in event:
        try:
            fields = _decode_object(event[len(_DATA) :])
        except UNREADABLE:
            return event + _END
        if fields.pop("usage", None) is not None:
            if bytes(fields.get("choices", b"")) == b"[]":
                return b""
            return _DATA + msgspec.json.encode(fields) + _END
    return event + _END
