"""What became of the last requests, by their ID: for the load tester's join and for a person with one slow request.

Bounded in number and in time, without content; in this process only.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import RequestRecord

_MAX_RECORDS = 4096
_KEPT_SECONDS = 120.0
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Journal:
    """Keeps the last records, and tells listeners of each (the access log, OTLP)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.listeners: list[Callable[[RequestRecord], None]] = []
        self._clock = clock
        self._records: OrderedDict[str, tuple[float, RequestRecord]] = OrderedDict()

    def add(self, record: RequestRecord, now: float) -> None:
        """Take a finished request; one without an ID, or with a wild one, can be listened to and not be asked for."""
        for listener in self.listeners:
            listener(record)
        if record.request_id:
            self._records[record.request_id] = (now, record)
            if len(self._records) > _MAX_RECORDS:
                self._records.popitem(last=False)

    def find(self, request_id: str) -> RequestRecord | None:
        """Return the record of a request that ended within the last two minutes."""
        found = self._records.get(request_id)
        if found is None or self._clock() - found[0] > _KEPT_SECONDS:
            return None
        return found[1]


def is_plain_id(text: str) -> bool:
    """Tell whether a client's own request ID may be kept: letters, digits and `_.:-`, at most 128."""
    return _ID.fullmatch(text) is not None


def plain_trace_parent(value: bytes) -> str:
    """Return a `traceparent` that is well formed (W3C Trace Context, 3.2), else nothing."""
    text = value.decode("latin-1")
    return text if _TRACE_PARENT.fullmatch(text) else ""
