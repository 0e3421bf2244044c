"""Events about a hung Ollama."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from llmendpoint_common.contracts.sidecar import Stall
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.endpoint.observe import PodView
from llmendpoint_operator.endpoint.stall_events import StallEvents
from support.in_memory.observations import HUNG, READY, SILENT, view

KEY = Key("LLMEndpoint", "ns", "assistant")
EARLY, LATE = datetime.fromtimestamp(1, UTC), datetime.fromtimestamp(100, UTC)


def hung(since: float, *, is_over: bool = False) -> PodView:
    assert HUNG.status is not None
    stall = Stall(since, "hung")
    return replace(
        HUNG, status=msgspec.structs.replace(HUNG.status, stalled=None if is_over else stall, last_stall=stall)
    )


def test_a_hang_is_one_event_also_if_it_is_over() -> None:
    for is_over in (False, True):
        events = StallEvents(EARLY)
        assert events.new(KEY, [view(READY, ready=True)]) == []
        assert events.new(KEY, [hung(5, is_over=is_over)]) == ["assistant-0: hung"]
        assert events.new(KEY, [hung(5, is_over=True)]) == []
        assert events.new(KEY, [SILENT]) == []
        assert events.new(KEY, [hung(5, is_over=True)]) == []
        assert events.new(KEY, [hung(6)]) == ["assistant-0: hung"]


def test_an_operator_that_starts_does_not_report_old_hangs_again() -> None:
    assert StallEvents(LATE).new(KEY, [hung(5, is_over=True)]) == []
    assert StallEvents(LATE).new(KEY, [hung(101)]) == ["assistant-0: hung"]


def test_the_hangs_of_each_replica_are_reported() -> None:
    events = StallEvents(EARLY)
    other = replace(hung(4), name="assistant-1")
    assert events.new(KEY, [hung(5)]) == ["assistant-0: hung"]
    assert events.new(KEY, [hung(5), other]) == ["assistant-1: hung"]
    events.forget(KEY)
    assert len(events.new(KEY, [hung(5), other])) == 2
