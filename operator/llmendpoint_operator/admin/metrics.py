"""Metrics about the operator itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from llmendpoint_operator.cluster.client import ApiServer, Request
from llmendpoint_operator.leadership.claims import Reach
from llmendpoint_operator.leadership.lease import Leadership
from llmendpoint_operator.reconcile.measures import ERROR, Histogram
from llmendpoint_operator.reconcile.workqueue import WorkQueue
from llmendpoint_operator.watching.watches import Watches

_PREFIX = "llmendpoint_operator_"


@dataclass(frozen=True)
class Parts:
    """The parts of the operator that are measured."""

    queue: WorkQueue
    servers: Sequence[ApiServer]
    leadership: Leadership
    watches: Watches


class OperatorMetrics(Collector):
    """Reads the parts of the operator when the metrics are scraped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        yield from self._reconciles()
        yield from self._requests()
        yield from self._leadership()
        yield from self._watches()

    def _reconciles(self) -> Iterable[Metric]:
        queue = self._parts.queue
        reconciles = CounterMetricFamily(
            _PREFIX + "reconciles",
            "Number of reconciles by kind of resource and result: success, error, or interrupted because another "
            "process took over.",
            labels=("kind", "result"),
        )
        errors = CounterMetricFamily(
            _PREFIX + "reconcile_errors", "Number of reconciles that failed and are retried.", labels=("kind",)
        )
        for (kind, result), number in sorted(queue.measures.reconciles.items()):
            reconciles.add_metric((kind, result), number)
            if result == ERROR:
                errors.add_metric((kind,), number)
        yield reconciles
        yield errors
        yield _histogram("reconcile_duration_seconds", "Time that a reconcile took.", queue.measures.durations)
        yield _histogram(
            "queue_latency_seconds",
            "Time from the event that made a resource dirty until its reconcile began.",
            queue.measures.latencies,
        )
        yield _gauge("queue_depth", "Number of resources that are waiting to be reconciled.", queue.depth)
        yield _gauge("active_reconciles", "Number of resources that are being reconciled.", queue.running)

    def _requests(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            _PREFIX + "api_requests",
            "Number of requests to the API server by verb, resource and status code; the code is <error> if there was "
            "no response. Watches of this operator's own resources and Leases are not included.",
            labels=("verb", "resource", "code"),
        )
        numbers = sum((server.requests for server in self._parts.servers), Counter[Request]())
        for request, number in sorted(numbers.items()):
            requests.add_metric(tuple(request), number)
        yield requests

    def _leadership(self) -> Iterable[Metric]:
        leader = GaugeMetricFamily(
            _PREFIX + "leader",
            "1 if this process serves the scope, 0 if not. The scope is a namespace, or empty for all namespaces.",
            labels=("scope",),
        )
        conflict = GaugeMetricFamily(
            _PREFIX + "scope_conflict",
            "1 for each scope that this process does not serve because another installation does.",
            labels=("scope", "installation"),
        )
        for me, standing, _ in self._parts.leadership.standings():
            scope = "" if me.reach is Reach.CLUSTER else me.home
            leader.add_metric((scope,), standing.leader)
            if standing.conflict and standing.other is not None:
                conflict.add_metric((scope, standing.other.installation), 1)
            for namespace, installation in standing.left_out:
                conflict.add_metric((namespace, installation), 1)
        if not self._parts.leadership.is_elected:
            leader.add_metric(("",), 1)
        yield leader
        yield conflict

    def _watches(self) -> Iterable[Metric]:
        watches = self._parts.watches
        yield _gauge(
            "watch_problems",
            "Number of problems that keep the operator from watching a namespace or a kind. /readyz and the log "
            "describe them.",
            len(watches.problems()),
        )
        yield _gauge(
            "canary_age_seconds",
            "Time for which renewals of the operator's Lease that the API server accepted have not arrived through the "
            "watch of Leases. 0 while there is no such watch, for example because the API server refuses it.",
            watches.canary.overdue(),
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _histogram(name: str, text: str, by_kind: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text, labels=("kind",))
    for kind, histogram in sorted(by_kind.items()):
        family.add_metric((kind,), histogram.buckets(), histogram.sum)
    return family
