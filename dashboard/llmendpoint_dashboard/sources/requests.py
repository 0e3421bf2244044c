"""The table `requests`: the last 200 requests of all sidecars, without content."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from llmendpoint_common.contracts.sidecar import Operation, RequestRecord
from llmendpoint_dashboard.contract import MAX_REQUESTS, RequestRow, TableSection
from llmendpoint_dashboard.sources.traffic import GOOD, rounded
from llmendpoint_dashboard.state import Hub

#: Requests about models, which clients send every few seconds. They are only shown if they failed.
_QUIET = frozenset({Operation.INFO, Operation.LIST, Operation.SHOW})


class RequestTable:
    """Keeps the last requests by key."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._rows: dict[str, RequestRow] = {}

    def add(self, source: str, records: Iterable[RequestRecord]) -> None:
        """Add the requests of one source. Those that are known already are not added again."""
        new = {row.key: row for row in (_row(source, record) for record in records if _is_shown(record))}
        new = {key: row for key, row in new.items() if key not in self._rows}
        if not new:
            return
        rows = {**self._rows, **new}
        if len(rows) > MAX_REQUESTS:
            rows = {row.key: row for row in heapq.nlargest(MAX_REQUESTS, rows.values(), key=_order)}
        self._hub.remove(TableSection.REQUESTS, self._rows.keys() - rows.keys())
        self._hub.upsert(TableSection.REQUESTS, (row for key, row in new.items() if key in rows))
        self._rows = rows


def _order(row: RequestRow) -> tuple[float, str]:
    return row.time, row.key


def _is_shown(record: RequestRecord) -> bool:
    return record.operation not in _QUIET or record.outcome not in GOOD


def _row(source: str, record: RequestRecord) -> RequestRow:
    return RequestRow(
        # Clients choose request IDs and may repeat them, so the time is part of the key.
        key=f"{source}/{record.request_id}@{record.time:.6f}",
        time=round(record.time, 3),
        source=source,
        request_id=record.request_id,
        model=record.model_name,
        tenant=record.tenant,
        operation=record.operation.value,
        code=record.code,
        outcome=record.outcome.value,
        duration=rounded(record.duration),
        ttft=_seconds(record.time_to_first_token),
        queue=_seconds(record.queue),
        load=_seconds(record.load),
        prefill=_seconds(record.prefill),
        decode=_seconds(record.decode),
        prompt_tokens=record.prompt_tokens,
        generation_tokens=record.generation_tokens,
    )


def _seconds(value: float | None) -> float | None:
    return None if value is None else rounded(value)
