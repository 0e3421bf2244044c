"""Comparison of two LoadTests by their statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_dashboard.contract import Better, LoadTestRow, Origin, RunState, TableSection
from llmendpoint_dashboard.loadtests.catalog import Catalog
from llmendpoint_dashboard.settings import parse_settings
from llmendpoint_dashboard.state import Hub

FAST = {
    "requests": 60, "errors": 0, "requestsPerSecond": "2.5", "outputTokensPerSecond": "120", "attainment": "100%",
    "ttft": {"p50": "80ms", "p95": "212ms", "p99": "300ms"},
}  # fmt: skip
SLOW = {
    "requests": 50, "errors": 5, "requestsPerSecond": "2", "attainment": "90%",
    "ttft": {"p50": "80ms", "p95": "1.2s", "p99": "2m05s"},
    "tpot": {"p50": "10ms", "p95": "20ms", "p99": "30ms"},
}  # fmt: skip


def row(name: str, **fields: Any) -> LoadTestRow:
    state = RunState.ENDED
    values = {"load": "4 users for 1 min", "model": "tiny:latest", "origin": Origin.CLUSTER, **fields}
    return LoadTestRow(key=f"team-a/{name}", name=name, state=state, **values)


@pytest.fixture
def hub() -> Hub:
    return Hub()


def catalog(hub: Hub, summaries: dict[str, Any], *rows: LoadTestRow) -> Catalog:
    hub.upsert(TableSection.LOADTESTS, rows)
    settings = parse_settings(["--cluster"], environment={})
    return Catalog(hub, settings, None, None, summaries.get)


async def test_the_better_values_of_two_statuses_are_marked(hub: Hub) -> None:
    tests = catalog(hub, {"team-a/a": FAST, "team-a/b": SLOW}, row("a"), row("b", load="6 users for 1 min"))
    found = await tests.compare("team-a/a", "team-a/b")
    metrics = {item.name: item for item in found.metrics}
    assert (metrics["TTFT p95"].a, metrics["TTFT p95"].b, metrics["TTFT p95"].better) == (0.212, 1.2, Better.A)
    assert metrics["TTFT p50"].better is None
    assert (metrics["error rate"].a, metrics["error rate"].b, metrics["error rate"].better) == (0, 0.1, Better.A)
    assert (metrics["completed"].unit, metrics["completed"].better) == ("requests/s", Better.A)
    assert metrics["requests"].better is None
    # Only one of them measured it.
    assert (metrics["TPOT p95"].a, metrics["TPOT p95"].b, metrics["TPOT p95"].better) == (None, 0.02, None)
    assert found.differences == ["Load 4 users for 1 min → 6 users for 1 min"]
    assert found.command == "llmendpoint results compare team-a/a team-a/b"
    assert found.message == ""


async def test_a_load_test_without_a_result_is_not_compared(hub: Hub) -> None:
    found = await catalog(hub, {"team-a/a": FAST}, row("a"), row("b")).compare("team-a/a", "team-a/b")
    assert found.message == "b has no result yet."
    assert found.metrics == []


async def test_a_run_of_a_machine_is_not_compared_with_a_load_test(hub: Hub, tmp_path: Path) -> None:
    tests = catalog(hub, {"team-a/a": FAST}, row("a"), row("b", origin=Origin.MACHINE))
    found = await tests.compare("team-a/a", "team-a/b")
    assert found.message == "A run of this machine and a load test of a cluster cannot be compared."
