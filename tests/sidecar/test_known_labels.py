"""Series whose labels are known exist from the beginning, so that `rate()` sees their first increase."""

from __future__ import annotations

from prometheus_client import generate_latest

from llmendpoint_common.contracts.sidecar import Operation, UnmeteredReason
from llmendpoint_common.wire.routes import METERED
from llmendpoint_sidecar.meter.families import COUNTERS
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.stall.watch import Answer
from llmendpoint_sidecar.workers.keeper import RestartReason

#: Every series of a sidecar that has no request yet. Those of models and tenants are created by their requests.
_FIRST_SERIES = 45


def test_the_series_of_known_labels_begin_with_0() -> None:
    metrics = Metrics()
    for _ in range(2):
        samples = [line for line in generate_latest(metrics.registry).decode().splitlines() if not line.startswith("#")]
        assert all(sample.endswith(" 0.0") for sample in samples)
        assert 'llmendpoint_upstream_tests_total{result="no_answer"} 0.0' in samples
        assert len(samples) < _FIRST_SERIES
        metrics.clear()
    metrics.add(Metrics().snapshot(), str)
    assert metrics.total("transfer_bytes") == 0


def test_the_known_labels_are_those_that_are_counted() -> None:
    assert set(COUNTERS["worker_restarts"].known) == {(reason,) for reason in RestartReason}
    assert set(COUNTERS["upstream_tests"].known) == {(answer,) for answer in Answer}
    unmetered = COUNTERS["unmetered_requests"].known
    assert {operation for operation, _ in unmetered} == METERED | {Operation.OTHER}
    assert {reason for _, reason in unmetered} == set(UnmeteredReason)
    assert {operation for (operation,) in COUNTERS["transfer_bytes"].known} >= {"pull", "push", "blob"}
