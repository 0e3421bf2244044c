"""The hub: what readers get, and how often it is encoded."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_dashboard import state
from llmendpoint_dashboard.contract import DoctorRow, Overview, Severity, Traffic
from llmendpoint_dashboard.state import Hub, Reader, RowWriter
from support.dashboard.dashboards import Page

NOTHING = Traffic(prompt_tokens_per_second=0, generation_tokens_per_second=0, requests_per_second=0)


def row(key: str, sentence: str = "") -> DoctorRow:
    return DoctorRow(key=key, severity=Severity.INFO, subject="s", cause="c", sentence=sentence)


def overview(time: float) -> Overview:
    return Overview(time=time, window_seconds=0, total=NOTHING)


def never() -> None:
    raise AssertionError("the reader was dropped")


def taken(reader: Reader) -> str:
    """Return what waits for a reader."""
    frames = b"".join(frame.plain for frame in reader._frames)
    reader._frames.clear()
    reader._waiting = 0
    return frames.decode()


def whole(hub: Hub) -> Page:
    """Return a page that has just loaded the state."""
    page = Page()
    page.replace(json.loads(hub.encoded().body))
    return page


def test_a_new_reader_gets_the_whole_state_and_then_what_changes() -> None:
    hub, page = Hub(), Page()
    hub.upsert("doctor", [row("a"), row("b")])
    reader = hub.join("", never)
    page.feed(taken(reader))
    assert page.seen == ["state"]
    assert [row["key"] for row in page.rows("doctor")] == ["a", "b"]

    hub.upsert("doctor", [row("b", "changed"), row("c")])
    hub.remove("doctor", ["a"])
    hub.set_section("overview", overview(1))
    hub.flush()
    page.feed(taken(reader))
    assert page.seen == ["state", "section", "rows", "rows"]
    assert [(row["key"], row["sentence"]) for row in page.rows("doctor")] == [("b", "changed"), ("c", "")]
    assert page.values["overview"]["time"] == 1


def test_nothing_is_sent_if_nothing_has_changed() -> None:
    hub = Hub()
    hub.upsert("doctor", [row("a")])
    hub.set_section("overview", overview(1))
    reader = hub.join("", never)
    taken(reader)
    hub.upsert("doctor", [row("a")])
    hub.set_section("overview", overview(1))
    hub.remove("doctor", ["absent"])
    hub.flush()
    assert taken(reader) == ""


def test_a_reader_that_comes_back_gets_only_what_it_missed() -> None:
    hub, page = Hub(), Page()
    hub.upsert("doctor", [row("a"), row("b")])
    hub.set_section("overview", overview(1))
    reader = hub.join("", never)
    page.feed(taken(reader))
    hub.leave(reader)

    hub.upsert("doctor", [row("c")])
    hub.remove("doctor", ["a"])
    missed = taken(hub.join(page.last_event_id, never))
    assert "overview" not in missed
    page.feed(missed)
    assert page.seen == ["state", "rows"]
    assert page.tables == whole(hub).tables
    assert taken(hub.join(page.last_event_id, never)) == ""


@pytest.mark.parametrize("last", ["", "x", "-1", "other-1", "{epoch}-999", "{epoch}-", "{epoch}-²", "{epoch}-1.0"])
def test_a_reader_whose_last_event_is_not_known_gets_the_whole_state(last: str) -> None:
    hub, page = Hub(), Page()
    hub.upsert("doctor", [row("a")])
    page.feed(taken(hub.join(last.replace("{epoch}", hub.epoch), never)))
    assert page.seen == ["state"]


def test_a_reader_that_missed_too_many_removals_gets_the_whole_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MAX_REMOVED", 3)
    hub, page = Hub(), Page()
    for name in "abcdef":
        hub.upsert("doctor", [row(name)])
        hub.flush()
    reader = hub.join("", never)
    page.feed(taken(reader))
    hub.leave(reader)
    for name in "abcde":
        hub.remove("doctor", [name])
        hub.flush()
    page.feed(taken(hub.join(page.last_event_id, never)))
    assert page.seen == ["state", "state"]
    assert page.tables == whole(hub).tables


def test_an_event_is_encoded_once_for_all_readers() -> None:
    hub = Hub()
    readers = [hub.join("", never) for _ in range(3)]
    hub.upsert("doctor", [row("a")])
    hub.flush()
    assert len({id(reader._frames[-1]) for reader in readers}) == 1
    # So is the whole state, for readers that come at the same version.
    assert len({id(hub.join("", never)._frames[0]) for _ in range(3)}) == 1


def test_a_large_change_is_split_into_several_events() -> None:
    hub, page = Hub(), Page()
    reader = hub.join("", never)
    page.feed(taken(reader))
    hub.upsert("doctor", [row(f"{number:04}") for number in range(1201)])
    hub.flush()
    page.feed(taken(reader))
    assert page.seen == ["state", "rows", "rows", "rows"]
    assert len(page.rows("doctor")) == 1201


def test_a_reader_that_does_not_read_is_dropped_and_releases_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MAX_READER_BYTES", 2000)
    dropped: list[str] = []
    hub = Hub()
    slow = hub.join("", lambda: dropped.append("slow"))
    fast = hub.join("", never)
    for number in range(30):
        hub.set_section("overview", overview(number))
        hub.flush()
        taken(fast)
    assert dropped == ["slow"]
    assert slow.is_dropped
    assert not slow._frames


async def test_a_reader_waits_for_frames_and_wakes_when_it_is_closed() -> None:
    hub = Hub()
    reader = hub.join("", never)
    assert (await reader.take(1)).startswith(b"id: ")
    assert await reader.take(0.001) == b""
    waiting = asyncio.create_task(reader.take(60))
    await asyncio.sleep(0)
    hub.close()
    assert await waiting == b""
    assert hub.reader_count == 0


def test_compressed_frames_can_be_read_from_any_one_on() -> None:
    hub = Hub()
    early = hub.join("", never, packed=True)
    for number in range(3):
        hub.upsert("doctor", [row(f"{number}", "a sentence that repeats")])
        hub.flush()
    late = hub.join("", never, packed=True)
    hub.set_section("overview", overview(1))
    hub.flush()
    for reader in (early, late):
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        plain = b"".join(frame.plain for frame in reader._frames)
        data = state.GZIP_HEAD + b"".join(frame.packed for frame in reader._frames)
        assert stream.decompress(data) == plain


def test_the_document_for_polling_is_encoded_once_per_version() -> None:
    hub = Hub()
    hub.upsert("doctor", [row("a")])
    first = hub.encoded()
    assert hub.encoded() is first
    hub.upsert("doctor", [row("b")])
    second = hub.encoded()
    assert second.tag != first.tag
    assert [row["key"] for row in json.loads(second.body)["sections"]["doctor"]] == ["a", "b"]


def test_writers_of_one_table_replace_only_their_own_rows() -> None:
    hub = Hub()
    one, other = RowWriter(hub, "doctor"), RowWriter(hub, "doctor")
    one.replace([row("a"), row("b")])
    other.replace([row("c")])
    one.replace([row("b"), row("d")])
    assert sorted(item.key for item in hub.rows("doctor")) == ["b", "c", "d"]


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.sampled_from("abcd"), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.just("section"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("flush"), st.just(""), st.just(0)),
        st.tuples(st.just("reconnect"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(Steps)
def test_a_page_always_ends_with_the_state_of_the_hub(steps: list[tuple[str, str, int]]) -> None:
    hub, page = Hub(), Page()
    reader = hub.join("", never)
    actions: dict[str, Any] = {
        "upsert": lambda key, number: hub.upsert("doctor", [row(key, str(number))]),
        "remove": lambda key, _: hub.remove("doctor", [key]),
        "section": lambda _, number: hub.set_section("overview", overview(number)),
        "flush": lambda *_: hub.flush(),
    }
    for kind, key, number in steps:
        if kind == "reconnect":
            # What was sent may have been lost with the connection.
            hub.leave(reader)
            reader = hub.join(page.last_event_id, never)
        else:
            actions[kind](key, number)
            if kind == "flush":
                page.feed(taken(reader))
    hub.flush()
    page.feed(taken(reader))
    expected = whole(hub)
    assert page.tables == expected.tables
    assert page.values == expected.values
