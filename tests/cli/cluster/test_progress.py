"""The line that `load --endpoint` and `results --wait` show while a LoadTest runs on a cluster."""

from __future__ import annotations

from typing import Any

from llmendpoint_cli.cluster.results import progress_of


def line(message: str, **status: Any) -> str:
    conditions = [{"type": "Reconciling", "status": "True", "reason": "Running", "message": message}]
    return ", ".join(progress_of({"status": {"conditions": conditions, **status}}))


def test_a_run_is_shown_with_the_numbers_of_its_status_and_no_others() -> None:
    progress = {"requests": 12, "errors": 1, "inFlight": 3, "requestsPerSecond": "0.6", "slo": []}
    found = line("12 requests, 1 error, 48 tokens, stage 2 of 3", progressPercent=5, progress=progress)
    assert found == "  5 %, 12 requests, 1 error, 48 tokens, stage 2 of 3, 3 in flight, 0.6 requests/s"


def test_a_run_that_waits_says_for_what_without_numbers() -> None:
    sentence = "LoadTest nightly in spec.baselineRef does not exist."
    assert line(sentence, progressPercent=0) == sentence
    assert list(progress_of({})) == ["waiting for the operator"]
