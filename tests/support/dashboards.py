"""Dashboards in the test process, and a browser that reads their events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from llmendpoint_dashboard.main import Dashboard

StartDashboard = Callable[..., Awaitable[Dashboard]]


class Page:
    """What a browser knows: the sections, and the ID of the last event, kept as the front end does."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.last_event_id = ""
        #: The events that were applied, by their kind.
        self.seen: list[str] = []
        self._rest = ""

    def feed(self, text: str) -> None:
        """Apply the complete events in a part of the stream."""
        *events, self._rest = (self._rest + text).split("\n\n")
        for event in events:
            self._apply(event)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table, in the order of their keys."""
        return [row for _, row in sorted(self.tables.get(name, {}).items())]

    def _apply(self, event: str) -> None:
        fields = dict(line.split(": ", 1) for line in event.split("\n") if line and not line.startswith(":"))
        self.last_event_id = fields.get("id", self.last_event_id)
        kind = fields.get("event", "")
        if not kind:
            return
        self.seen.append(kind)
        data = json.loads(fields["data"])
        if kind == "state":
            self.replace(data)
        elif kind == "section":
            self.values[data["name"]] = data["value"]
        else:
            table = self.tables.setdefault(data["name"], {})
            for key in data["remove"]:
                table.pop(key, None)
            table.update({row["key"]: row for row in data["upsert"]})

    def replace(self, state: dict[str, Any]) -> None:
        """Take over a whole state."""
        sections = state["sections"]
        self.values = {name: value for name, value in sections.items() if isinstance(value, dict)}
        self.tables = {
            name: {row["key"]: row for row in value} for name, value in sections.items() if isinstance(value, list)
        }


def url_of(dashboard: Dashboard, path: str = "") -> str:
    """Return a URL of a dashboard."""
    return f"http://127.0.0.1:{dashboard.port}{path}"


@asynccontextmanager
async def reading(
    http: aiohttp.ClientSession, dashboard: Dashboard, page: Page, **headers: str
) -> AsyncIterator[asyncio.Task[None]]:
    """Read the events of a dashboard into a page as long as the context lasts. Yields the task that reads."""
    if page.last_event_id:
        headers["Last-Event-ID"] = page.last_event_id
    timeout = aiohttp.ClientTimeout(total=None)
    async with http.get(url_of(dashboard, "/api/v1/events"), headers=headers, timeout=timeout) as response:
        assert response.status == 200, await response.text()

        async def read() -> None:
            async for part in response.content.iter_any():
                page.feed(part.decode())

        task = asyncio.create_task(read())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def state_of(http: aiohttp.ClientSession, dashboard: Dashboard) -> dict[str, Any]:
    """Return the sections of `GET /api/v1/state`."""
    async with http.get(url_of(dashboard, "/api/v1/state"), headers={"Accept-Encoding": "identity"}) as response:
        assert response.status == 200
        return dict(json.loads(await response.read())["sections"])
