"""Rows of LoadTests."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_dashboard.cluster.loads import describe_load
from llmendpoint_dashboard.cluster.loadtests import LoadTestView, loadtest_view, rank
from llmendpoint_dashboard.contract import LoadTestRow, ObjectiveState, Origin, Percentiles, RunState

SPEC: dict[str, Any] = {
    "endpointRef": {"name": "assistant"},
    "load": {"concurrency": 2, "duration": "30s"},
    "slo": [{"metric": "TTFT", "percentile": 95, "threshold": "2s"}, {"metric": "Attainment", "threshold": "95%"}],
}


def view(spec: Any = None, created: str = "2026-11-26T14:00:00Z", **status: Any) -> LoadTestView:
    metadata = {"namespace": "team-a", "name": "nightly", "creationTimestamp": created}
    return loadtest_view({"metadata": metadata, "spec": spec or SPEC, "status": status})


def conditions(**reasons: tuple[str, str, str]) -> list[dict[str, str]]:
    return [
        {"type": kind.capitalize(), "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in reasons.items()
    ]


RUNNING = conditions(complete=("False", "Running", "m"), passed=("Unknown", "Running", "12 requests, 0 errors."))
PASSED = conditions(complete=("True", "Finished", "m"), passed=("True", "ObjectivesMet", "All objectives were met."))


def test_a_running_test_has_its_progress_and_its_objectives() -> None:
    row = view(conditions=RUNNING, progressPercent=40, startTime="2026-11-26T14:00:05Z", model="tiny:latest").row
    assert row == LoadTestRow(
        key="team-a/nightly",
        name="nightly",
        origin=Origin.CLUSTER,
        namespace="team-a",
        state=RunState.RUNNING,
        started=1795701605.0,
        target="team-a/assistant",
        model="tiny:latest",
        load="2 users for 30 s",
        percent=40,
        objectives=(ObjectiveState(text="TTFT p95 ≤ 2 s"), ObjectiveState(text="attainment ≥ 95 %")),
        message="12 requests, 0 errors.",
    )


def test_the_numbers_of_a_running_test_are_those_of_its_progress() -> None:
    slo = [
        {**SPEC["slo"][0], "measured": "200ms to 240ms", "met": True},
        {**SPEC["slo"][1], "measured": "nothing measured"},
    ]
    progress = {"requests": 12, "errors": 1, "inFlight": 2, "requestsPerSecond": "2.5", "slo": slo}
    row = view(conditions=RUNNING, progressPercent=40, progress=progress).row
    assert (row.requests, row.errors, row.in_flight, row.requests_per_second) == (12, 1, 2, 2.5)
    assert row.objectives == (
        ObjectiveState(text="TTFT p95 ≤ 2 s", measured="200 ms to 240 ms", met=True),
        ObjectiveState(text="attainment ≥ 95 %"),
    )
    opening = {"requests": 0, "errors": 0, "inFlight": 0, "awaiting": "opening connections"}
    assert view(conditions=RUNNING, progress=opening).row.awaiting == "opening connections"


def test_a_test_that_has_ended_has_its_verdict_summary_and_the_command_for_its_report() -> None:
    summary = {
        "requests": 60,
        "errors": 1,
        "requestsPerSecond": "2.5",
        "ttft": {"p50": "80ms", "p95": "1.2s", "p99": "2m05s"},
    }
    slo = [
        {**SPEC["slo"][0], "measured": "1.2s", "met": True},
        {**SPEC["slo"][1], "measured": "nothing measured", "met": False},
    ]
    found = view(conditions=PASSED, verdict="Passed", summary=summary, slo=slo, completionTime="2026-11-26T14:01:00Z")
    row = found.row
    assert (row.state, row.verdict, row.reason) == (RunState.ENDED, "Passed", "ObjectivesMet")
    assert (row.requests, row.errors, row.requests_per_second) == (60, 1, 2.5)
    assert row.ttft == Percentiles(p50=0.08, p95=1.2, p99=125.0)
    assert row.ended == 1795701660.0
    assert [(item.measured, item.met) for item in row.objectives] == [("1.2 s", True), ("", None)]
    assert not row.has_report
    assert row.report_command == "llmendpoint results team-a/nightly --out nightly"
    assert found.summary == summary


def test_an_objective_that_was_not_judged_is_neither_met_nor_missed() -> None:
    slo = [{**SPEC["slo"][0], "measured": "1.2s"}]
    (objective,) = view(conditions=PASSED, verdict="Invalid", slo=slo).row.objectives
    assert (objective.measured, objective.met) == ("1.2 s", None)


def test_a_test_that_waits_has_no_verdict_and_says_what_it_waits_for() -> None:
    waiting = conditions(
        complete=("False", "Pending", "m"), passed=("Unknown", "Pending", "LLMEndpoint assistant is not Ready.")
    )
    row = view(conditions=waiting).row
    assert (row.state, row.verdict, row.reason) == (RunState.WAITING, "", "")
    assert row.message == row.awaiting == "LLMEndpoint assistant is not Ready."


def test_a_test_that_cannot_start_is_a_finding_and_one_that_has_failed_is_not() -> None:
    stalled = ("True", "ModelNotServed", "The endpoint does not serve other:latest.")
    finding = view(conditions=conditions(complete=("False", "ModelNotServed", ""), stalled=stalled)).finding
    assert finding is not None
    assert (finding.cause, finding.subject) == ("ModelNotServed", "LoadTest team-a/nightly")
    assert finding.sentence == "The endpoint does not serve other:latest."
    assert finding.command == "kubectl --namespace team-a describe loadtest nightly"
    assert view(conditions=conditions(complete=("True", "Finished", ""), stalled=stalled)).finding is None


def test_tests_that_have_not_ended_are_kept_longest_then_the_newest() -> None:
    running = view(created="2020-01-01T00:00:00Z", conditions=RUNNING)
    old, new = (view(created=f"2026-11-2{day}T00:00:00Z", conditions=PASSED) for day in (5, 6))
    assert sorted([running, new, old], key=rank) == [old, new, running]


@pytest.mark.parametrize(
    ("load", "scenario", "sentence"),
    [
        ({"concurrency": 1, "duration": "5m"}, "", "1 user for 5 min"),
        ({"concurrency": 8, "duration": "30s", "parallelism": 2}, "", "8 users for 30 s from 2 pods"),
        ({"rate": "0.5", "duration": "2m", "parallelism": 1}, "", "0.5 requests/s for 2 min"),
        ({"sessions": {"users": 3}, "duration": "1m"}, "", "3 conversations for 1 min"),
        (
            {"sweep": {"minRate": "1", "maxRate": "50", "stepDuration": "60s"}},
            "",
            "search for the highest rate from 1 to 50 requests/s",
        ),
        (
            {"stages": [{"rate": "9", "duration": "1m"}, {"rate": "20", "duration": "30s"}]},
            "Spike",
            "Spike: 9, 20 requests/s in 1 min 30 s",
        ),
        ({"stages": [{"concurrency": 4, "duration": "10s"}]}, "", "4 users in 10 s"),
        (
            {"concurrency": 2, "duration": "30s", "maxRequests": 9, "warmup": "5s"},
            "",
            "2 users for 30 s, at most 9 requests, after a warm-up of 5 s",
        ),
        (
            {"stages": [{"rate": str(rate), "duration": "1s"} for rate in range(1, 9)]},
            "",
            "1, 2, 3, 4, 5, … requests/s in 8 s",
        ),
        ({"concurrency": 2, "duration": "soon", "warmup": []}, "", "2 users for 0 s"),
        ({}, "Baseline", "the scenario Baseline"),
        ({}, "", ""),
    ],
)
def test_a_load_is_described_in_one_sentence(load: dict[str, Any], scenario: str, sentence: str) -> None:
    assert describe_load(load, scenario) == sentence
