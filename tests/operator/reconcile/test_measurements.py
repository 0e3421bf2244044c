"""What a load test says about the capacity of its endpoint."""

from __future__ import annotations

from typing import Any

from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.reconcile.measurements import Measurements

ENDPOINT = Key("LLMEndpoint", "ns", "assistant")
STATUS = {"verdict": "Passed", "model": "m:1", "modelDigest": "sha256:1", "replicas": 1, "configurationHash": "c",
          "completionTime": "2026-01-02T03:04:05Z"}  # fmt: skip
SUMMARY = {
    "requests": 110,
    "errors": 10,
    "outputTokens": 2000,
    "requestsPerSecond": "3.1",
    "outputTokensPerSecond": "60",
}


def capacity(**summary: Any) -> tuple[str, str]:
    measurements = Measurements()
    measurements.record(Key("LoadTest", "ns", "nightly"), "assistant", {**STATUS, "summary": {**SUMMARY, **summary}})
    (found,) = measurements.of(ENDPOINT)
    return found["requestsPerSecond"], found["tokensPerSecond"]


def test_the_capacity_is_what_the_load_test_measured() -> None:
    assert capacity() == ("3.1", "60")


def test_the_capacity_of_a_sweep_is_the_highest_rate_that_met_the_objectives() -> None:
    assert capacity(sweep={"rate": "8.5", "low": "8", "high": "9"}) == ("8.5", "170")


def test_a_sweep_that_found_no_rate_has_only_what_it_measured() -> None:
    assert capacity(sweep={"low": "0", "high": "1"}) == ("3.1", "60")
