"""The watches of a scope: kinds that are missing are found soon after another kind of their API group, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.watching.access import Access
from llmendpoint_operator.watching.canary import Canary
from llmendpoint_operator.watching.kopf_feed import KopfFeed
from llmendpoint_operator.watching.scope import Scope
from support.in_memory.fakes import plain_not_found
from support.virtual_time import run_virtually

MONITORING = {"servicemonitors", "podmonitors", "prometheuses"}


class Server:
    """An API server without objects, which lacks some kinds. `listed` has those that were listed."""

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.listed: set[str] = set()
        self._more = asyncio.Event()

    async def until_listed(self, plurals: set[str]) -> None:
        while not plurals <= self.listed:
            self._more.clear()
            await self._more.wait()

    async def read(self, path: str, query: Iterable[tuple[str, str]] = ()) -> bytes:
        plural = path.rsplit("/", 1)[-1]
        if plural in self.missing:
            raise plain_not_found()
        self.listed.add(plural)
        self._more.set()
        return b'{"metadata": {"resourceVersion": "1"}, "items": []}'

    @asynccontextmanager
    async def watch(self, path: str, query: Iterable[tuple[str, str]]) -> AsyncIterator[AsyncIterator[bytes]]:
        yield silence()


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def forever(_: Any) -> None:
    await asyncio.Event().wait()


def test_kinds_of_one_api_group_are_found_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing kind is looked for each minute. The CustomResourceDefinitions of a chart come one after another."""
    monkeypatch.setattr(KopfFeed, "run", forever)

    async def found_after(clock: Callable[[], float]) -> float:
        server = Server({*MONITORING, "httproutes"})
        access = Access(server, Discovery())  # type: ignore[arg-type]
        scope = Scope("", Inventory(), access, lambda _: None, lambda *_: None, Canary())
        running = asyncio.ensure_future(scope.run())
        await asyncio.sleep(600)
        server.missing.discard("podmonitors")
        await server.until_listed({"podmonitors"})
        await asyncio.sleep(3)
        server.missing -= MONITORING
        since = clock()
        await server.until_listed(MONITORING)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return clock() - since

    assert run_virtually(found_after) < 10
