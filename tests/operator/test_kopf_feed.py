"""The feed: reconciles start after the first listing of all kinds, and a second listing of a kind is detected."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import kopf
import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kopf_feed import Feed, _run_kopf
from support.children import KEY, config_map, endpoint_body, live, newer


class Recorder:
    """A feed, and the owners that it marked."""

    def __init__(self) -> None:
        self.marked: list[Key] = []
        self.inventory = Inventory()
        self.feed = Feed(self.inventory, self.marked.append)


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


async def test_nothing_is_marked_before_everything_is_listed(recorder: Recorder) -> None:
    endpoint, child = endpoint_body(), live(config_map())
    recorder.feed.begin()
    recorder.feed.shown("LLMEndpoint", endpoint)
    recorder.feed.shown("ConfigMap", child)
    assert recorder.marked == []
    completed = [recorder.inventory.is_listed("ConfigMap", "ns")]
    recorder.feed.happened("LLMEndpoint", None, endpoint)
    recorder.feed.happened("ConfigMap", None, child)
    assert recorder.marked == [KEY]
    assert [*completed, recorder.inventory.is_listed("ConfigMap", "ns")] == [False, True]
    assert not recorder.feed.relisted.is_set()


async def test_a_listing_that_takes_too_long_does_not_hold_reconciles_up(recorder: Recorder) -> None:
    recorder.feed.begin()
    recorder.feed.shown("LLMEndpoint", endpoint_body())
    recorder.feed.release()
    assert recorder.marked == [KEY]
    # Objects that have not been listed may still exist.
    assert not recorder.inventory.is_listed("ConfigMap", "ns")


async def test_what_a_new_listing_does_not_show_is_gone(recorder: Recorder) -> None:
    endpoint, child = endpoint_body(), live(config_map())
    for _ in range(2):
        recorder.feed.begin()
        recorder.feed.shown("LLMEndpoint", endpoint)
        recorder.feed.happened("LLMEndpoint", None, endpoint)
    recorder.inventory.wrote_child(KEY, child)
    recorder.marked.clear()
    recorder.feed.begin()
    recorder.feed.shown("LLMEndpoint", endpoint)
    recorder.feed.happened("LLMEndpoint", None, endpoint)
    assert recorder.marked == [KEY]
    assert recorder.inventory.seen(KEY).children == {}


async def test_a_kind_that_is_listed_again_by_itself_is_noticed(recorder: Recorder) -> None:
    endpoint = endpoint_body()
    recorder.feed.begin()
    recorder.feed.shown("LLMEndpoint", endpoint)
    recorder.feed.happened("LLMEndpoint", None, endpoint)
    edited = newer(endpoint, metadata={"generation": 2})
    recorder.feed.shown("LLMEndpoint", edited)
    recorder.feed.happened("LLMEndpoint", "MODIFIED", edited)
    assert not recorder.feed.relisted.is_set()
    recorder.feed.happened("LLMEndpoint", None, edited)
    assert recorder.feed.relisted.is_set()


async def test_a_deleted_child_marks_its_owner(recorder: Recorder) -> None:
    child = live(config_map())
    recorder.inventory.wrote_child(KEY, child)
    recorder.feed.happened("ConfigMap", "DELETED", child)
    assert recorder.marked == [KEY]


async def test_kopf_ends_when_it_fails_although_nobody_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_ID", "test")
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def fail(**_: Any) -> None:
        raise kopf.PermanentError("no")

    stop = threading.Event()
    try:
        with pytest.raises(Exception, match="fail"):
            await asyncio.wait_for(asyncio.to_thread(_run_kopf, registry, (), stop), 20)
    finally:
        stop.set()
