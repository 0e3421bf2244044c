"""Token counts of OpenAI streams whose client did not request them (`metering.includeUsage: Inject`).

The request is changed so that it requests the usage, and the usage is removed from the response.
"""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.request_body import RequestFacts

#: A longer event is passed on unchanged: an event that contains only usage is much shorter.
_MAX_EVENT_BYTES = 1024 * 1024
_END = b"\n\n"
_DATA = b"data: "
_OPTIONS = b',"stream_options":{"include_usage":true}'

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def ask_for_usage(body: bytes, facts: RequestFacts) -> bytes | None:
    """Return a changed body that requests usage, or None if it must not be changed (`RequestFacts.usage_offset`).

    A second `stream_options` is added at the end of the object. In Go, the last of repeated fields wins, and options
    that it does not contain keep their values.
    """
    offset = facts.usage_offset
    view = memoryview(body)
    return None if offset < 0 else b"".join((view[:offset], _OPTIONS, view[offset:]))


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
