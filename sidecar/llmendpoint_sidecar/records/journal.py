"""Records of the last requests by request ID, to analyze single requests, for example those of a load test.

Clients choose request IDs, so a record belongs to a tenant and an ID: a tenant cannot replace the record of another
one, and the first record of a tenant and an ID stays. The journal is bounded in number and age, contains no content,
and covers only this process.

Besides, the last 200 records are kept in the order in which they were added, for `GET /status/requests`.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from llmendpoint_common.contracts.sidecar import MAX_LISTED_REQUESTS, RequestRecord

#: A record takes less than 2 KiB.
_MAX_RECORDS = 4096
#: Long enough to query the requests of a load run after they have ended.
_KEPT_SECONDS = 120.0
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

#: Records of one tenant by request ID, oldest first, with the time at which each request ended.
_TenantRecords: TypeAlias = OrderedDict[str, tuple[float, RequestRecord]]


class Journal:
    """Keeps the last records, and passes every record to the listeners (access log, OTLP).

    If there are too many records, the oldest one of the tenant with the most records is dropped, so that a tenant that
    sends many requests does not displace the records of others.
    """

    def __init__(self, clock: Callable[[], float], max_records: int = _MAX_RECORDS) -> None:
        self.listeners: list[Callable[[RequestRecord], None]] = []
        self._clock = clock
        self._by_tenant: dict[str, _TenantRecords] = {}
        self._last: deque[RequestRecord] = deque(maxlen=MAX_LISTED_REQUESTS)
        self._count = 0
        self._max_records = max_records

    def add(self, record: RequestRecord, now: float) -> None:
        """Add the record of an ended request, unless there is one of the same tenant and request ID.

        A record without a request ID cannot be found, but is passed to the listeners and is among the last ones. Raises
        the first exception of a listener after all listeners were called.
        """
        self._last.append(record)
        if record.request_id:
            self._keep(record, now)
        if self.listeners:
            self._tell(record)

    def find(self, request_id: str, tenant: str | None = None) -> list[RequestRecord]:
        """Return the records of requests that ended within the last two minutes, at most one for each tenant.

        `tenant` restricts the result to one tenant. It is empty for requests without a tenant.
        """
        tenants: Iterable[str] = self._by_tenant if tenant is None else (tenant,)
        oldest = self._clock() - _KEPT_SECONDS
        found = (self._by_tenant[name].get(request_id) for name in tenants if name in self._by_tenant)
        return [kept[1] for kept in found if kept is not None and kept[0] >= oldest]

    def last(self, after: float, limit: int) -> list[RequestRecord]:
        """Return the last records of requests that ended after a Unix time, at most `limit`, in order of their ends."""
        found = sorted((record for record in self._last if record.time > after), key=lambda record: record.time)
        return found[-limit:]

    def _tell(self, record: RequestRecord) -> None:
        failure: Exception | None = None
        for listener in self.listeners:
            try:
                listener(record)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _keep(self, record: RequestRecord, now: float) -> None:
        records = self._by_tenant.get(record.tenant)
        if records is None:
            records = self._by_tenant[record.tenant] = OrderedDict()
        kept = records.get(record.request_id)
        if kept is not None:
            if now - kept[0] <= _KEPT_SECONDS:
                return
            del records[record.request_id]
            self._count -= 1
        records[record.request_id] = (now, record)
        if self._count < self._max_records:
            self._count += 1
        elif len(self._by_tenant) == 1:
            records.popitem(last=False)
        else:
            max(self._by_tenant.values(), key=len).popitem(last=False)


def is_plain_id(text: str) -> bool:
    """Return whether a client's request ID can be kept: at most 128 letters, digits and `_.:-`."""
    return _ID.fullmatch(text) is not None


def plain_trace_parent(value: bytes) -> str:
    """Return a `traceparent` if it is well formed (W3C Trace Context, 3.2), otherwise an empty string."""
    text = value.decode("latin-1")
    return text if _TRACE_PARENT.fullmatch(text) else ""
