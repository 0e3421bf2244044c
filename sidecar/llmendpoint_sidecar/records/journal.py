"""Records of the last requests by their ID, for the load tester and for people who look into one slow request.

The journal is bounded in number and time, holds no content, and covers this process only.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import RequestRecord

#: A record takes some hundred bytes.
_MAX_RECORDS = 4096
#: Long enough for a load run to ask for its requests after they ended.
_KEPT_SECONDS = 120.0
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Journal:
    """Keeps the last records, and passes each one to the listeners (access log, OTLP)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.listeners: list[Callable[[RequestRecord], None]] = []
        self._clock = clock
        self._records: OrderedDict[str, tuple[float, RequestRecord]] = OrderedDict()

    def add(self, record: RequestRecord, now: float) -> None:
        """Add the record of an ended request. Without a plain ID it goes to the listeners and is not kept."""
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
    """Return whether a client's own request ID may be kept: letters, digits and `_.:-`, at most 128 characters."""
    return _ID.fullmatch(text) is not None


def plain_trace_parent(value: bytes) -> str:
    """Return a `traceparent` if it is well formed (W3C Trace Context, 3.2), else an empty text."""
    text = value.decode("latin-1")
    return text if _TRACE_PARENT.fullmatch(text) else ""
