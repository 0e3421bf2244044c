"""Records of the last requests by request ID, to analyze single requests, for example those of a load test.

The journal is bounded in number and age, contains no content, and covers only this process.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import RequestRecord

#: A record takes a few hundred bytes.
_MAX_RECORDS = 4096
#: Long enough to query the requests of a load run after they have ended.
_KEPT_SECONDS = 120.0
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Journal:
    """Keeps the last records, and passes every record to the listeners (access log, OTLP)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.listeners: list[Callable[[RequestRecord], None]] = []
        self._clock = clock
        self._records: OrderedDict[str, tuple[float, RequestRecord]] = OrderedDict()

    def add(self, record: RequestRecord, now: float) -> None:
        """Add the record of an ended request.

        A record without a request ID is passed to the listeners, but not kept.
        """
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
    """Return whether a client's request ID can be kept: at most 128 letters, digits and `_.:-`."""
    return _ID.fullmatch(text) is not None


def plain_trace_parent(value: bytes) -> str:
    """Return a `traceparent` if it is well formed (W3C Trace Context, 3.2), otherwise an empty string."""
    text = value.decode("latin-1")
    return text if _TRACE_PARENT.fullmatch(text) else ""
