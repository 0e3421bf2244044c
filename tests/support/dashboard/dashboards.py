"""Dashboards in the test process, and a browser that reads their events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from llmendpoint_dashboard.main import Dashboard
from llmendpoint_sidecar.main import Sidecar
from support.servers import RunningSimulator

StartDashboard = Callable[..., Awaitable[Dashboard]]
#: The name of the simulator's model.
MODEL = "simulated:latest"


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


@dataclass
class Watched:
    """A simulator, the sidecars in front of it, a dashboard that reads them, and the page of a browser."""

    simulator: RunningSimulator
    sidecars: list[Sidecar]
    dashboard: Dashboard
    browser: aiohttp.ClientSession
    page: Page = field(default_factory=Page)

    def reading(self) -> AbstractAsyncContextManager[asyncio.Task[None]]:
        """Read the events of the dashboard into the page as long as the context lasts."""
        return reading(self.browser, self.dashboard, self.page)

    async def ask(self, sidecar: Sidecar | None = None, key: str = "", **fields: Any) -> None:
        """Send one request to a sidecar, or the first one, and read the answer to its end."""
        url = f"http://127.0.0.1:{(sidecar or self.sidecars[0]).port}/api/generate"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": MODEL, "prompt": "a few words", **fields}
        async with self.browser.post(url, json=body, headers=headers) as response:
            await response.read()

    def counted(self, field: str) -> int:
        """Return a total of the ledger over all models and operations that run a model."""
        return sum(getattr(account, field) for account in self.simulator.simulator.ledger.accounts.values())

    @property
    def overview(self) -> dict[str, Any]:
        """The section `overview`, with `windowSeconds` 0 until it has arrived."""
        return dict(self.page.values.get("overview", {"windowSeconds": 0, "total": {}}))

    @property
    def source(self) -> dict[str, Any]:
        """The first source, or nothing until it has arrived."""
        return dict(next(iter(self.page.values.get("about", {}).get("sources", [])), {}))

    @property
    def model(self) -> dict[str, Any]:
        """The row of the simulator's model, or nothing until it has arrived."""
        return next((row for row in self.page.rows("models") if row["name"] == MODEL), {})

    def total(self, field: str) -> float:
        """Return a rate of the overview times its window: how many there were in the window."""
        return float(self.overview["total"][field] * self.overview["windowSeconds"])


Watch = Callable[..., Awaitable[Watched]]
