"""Objectives while a run continues, on the requests of one load pod and of several."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.loadrun import MetricName, Objective, ObjectiveSoFar
from llmendpoint_common.results.so_far import Shown, show

TTFT = Objective(MetricName.TTFT, 0.25, 95)
ERRORS = Objective(MetricName.ERROR_RATE, 0.05)


def ttft(requests: int, met: int, value: float | None, unknown: int = 0) -> ObjectiveSoFar:
    return ObjectiveSoFar(MetricName.TTFT, 95, requests, met, unknown, value)


def errors(requests: int, failed: int) -> ObjectiveSoFar:
    return ObjectiveSoFar(MetricName.ERROR_RATE, None, requests, requests - failed)


@pytest.mark.parametrize(
    ("pods", "measured", "met"),
    [
        ([], "nothing measured", None),
        ([ttft(0, 0, None)], "nothing measured", None),
        ([ttft(100, 96, 0.212)], "212ms", True),
        ([ttft(100, 94, 0.3)], "300ms", False),
        # The percentile of all requests is between those of the pods.
        ([ttft(100, 97, 0.212), ttft(100, 96, 0.24)], "212ms to 240ms", True),
        # One pod misses the threshold, and all requests together meet it.
        ([ttft(300, 300, 0.1), ttft(20, 10, 0.3)], "100ms to 250ms", True),
        ([ttft(100, 100, 0.1), ttft(100, 50, None)], "100ms to never answered", False),
        # Ten requests are too few for a 95th percentile, also of two pods.
        ([ttft(5, 5, 0.1), ttft(5, 5, 0.1)], "100ms", None),
        ([ttft(100, 90, 0.2, unknown=10)], "nothing measured", None),
    ],
)
def test_latencies(pods: list[ObjectiveSoFar], measured: str, met: bool | None) -> None:
    assert show(TTFT, pods) == Shown("250ms", measured, met)


def test_shares_are_exact_over_all_pods() -> None:
    assert show(ERRORS, [errors(90, 0), errors(10, 5)]) == Shown("5%", "5%", True)
    assert show(ERRORS, [errors(90, 1), errors(10, 5)]) == Shown("5%", "6%", False)
