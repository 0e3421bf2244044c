"""Translates a LoadTest into its row. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmendpoint_common.contracts.cluster import LOADTEST, LoadTestCondition, LoadTestReason
from llmendpoint_common.contracts.loadrun import MetricName
from llmendpoint_common.diagnosis.findings import Finding
from llmendpoint_common.process.units import parse_duration
from llmendpoint_common.results.words import objective_text, spaced
from llmendpoint_dashboard.cluster.loads import describe_load
from llmendpoint_dashboard.cluster.reading import (
    NOT_SEEN,
    condition,
    conditions,
    items,
    number,
    seconds_of,
    section,
    text,
)
from llmendpoint_dashboard.cluster.reflector import Manifest
from llmendpoint_dashboard.cluster.stalled import stalled_finding
from llmendpoint_dashboard.cluster.tables import key_of
from llmendpoint_dashboard.contract import (
    Condition,
    LoadTestRow,
    ObjectiveState,
    Origin,
    Percentiles,
    RunState,
)
from llmendpoint_dashboard.words import measured_text


@dataclass(frozen=True)
class LoadTestView:
    """Row, summary and finding of a LoadTest.

    `summary` is `status.summary`, None until the run has ended. `created` is a timestamp, whose order is that of the
    times. `finding` has the reason for which the run cannot start, and is None if nothing is wrong.
    """

    row: LoadTestRow
    summary: Any
    created: str
    finding: Finding | None


def loadtest_view(body: Manifest) -> LoadTestView:
    """Return row, summary and finding of a LoadTest."""
    found = conditions(body)
    row = _row(body, found)
    # A run that has ended without passing is stalled too, but its verdict already shows that.
    finding = None if row.state is RunState.ENDED else stalled_finding(LOADTEST, row.namespace, row.name, found)
    summary = section(body, "status").get("summary")
    return LoadTestView(row, summary, text(body["metadata"], "creationTimestamp"), finding)


def rank(view: LoadTestView) -> tuple[bool, str]:
    """Return the order in which load tests are kept: those that have not ended, then the newest."""
    return view.row.state is not RunState.ENDED, view.created


def _row(body: Manifest, found: Sequence[Condition]) -> LoadTestRow:
    metadata, spec, status = body["metadata"], section(body, "spec"), section(body, "status")
    namespace, name = str(metadata["namespace"]), str(metadata["name"])
    summary = section(status, "summary")
    # The operator replaces the progress by the summary when the run ends.
    counted = summary or section(status, "progress")
    passed = condition(found, LoadTestCondition.PASSED)
    state = _state(found)
    has_ended = state is RunState.ENDED
    return LoadTestRow(
        key=key_of(body),
        name=name,
        origin=Origin.CLUSTER,
        namespace=namespace,
        state=state,
        started=seconds_of(text(status, "startTime")),
        ended=seconds_of(text(status, "completionTime")),
        target=_target(namespace, spec, status),
        model=text(status, "model") or text(spec, "model"),
        load=describe_load(section(status, "resolvedLoad") or section(spec, "load"), text(spec, "scenario")),
        percent=number(status, "progressPercent"),
        awaiting=passed.message if state is RunState.WAITING else text(counted, "awaiting"),
        in_flight=number(counted, "inFlight"),
        requests=number(counted, "requests"),
        errors=number(counted, "errors"),
        requests_per_second=_float(text(counted, "requestsPerSecond")),
        objectives=_objectives(spec, status),
        verdict=text(status, "verdict") if has_ended else "",
        reason=passed.reason if has_ended else "",
        message=passed.message if found else NOT_SEEN,
        ttft=_percentiles(section(summary, "ttft")),
        report_command=f"llmendpoint results {namespace}/{name} --out {name}" if summary else "",
    )


def _state(found: Sequence[Condition]) -> RunState:
    if condition(found, LoadTestCondition.COMPLETE).status == "True":
        return RunState.ENDED
    is_running = condition(found, LoadTestCondition.PASSED).reason == LoadTestReason.RUNNING
    return RunState.RUNNING if is_running else RunState.WAITING


def _target(namespace: str, spec: Manifest, status: Manifest) -> str:
    endpoint = text(section(spec, "endpointRef"), "name")
    if endpoint:
        return f"{namespace}/{endpoint}"
    return text(status, "target") or text(section(spec, "target"), "url")


def _objectives(spec: Manifest, status: Manifest) -> tuple[ObjectiveState, ...]:
    """Return the objectives with what was measured, or until now. Before the load, only the spec has them."""
    measured = items(status, "slo") or items(section(status, "progress"), "slo")
    return tuple(_objective(item) for item in measured or items(spec, "slo"))


def _objective(item: Manifest) -> ObjectiveState:
    metric, threshold, measured = text(item, "metric"), text(item, "threshold"), measured_text(text(item, "measured"))
    try:
        words = objective_text(MetricName(metric), number(item, "percentile"), threshold)
    except ValueError:
        # A metric of a later version.
        words = f"{metric} {spaced(threshold)}"
    met = item.get("met")
    # An objective that was not judged has no `met`.
    is_judged = isinstance(met, bool) and bool(measured)
    return ObjectiveState(text=words, measured=measured, met=met if is_judged else None)


def _percentiles(latency: Manifest) -> Percentiles | None:
    try:
        values = {name: parse_duration(text(latency, name)) for name in ("p50", "p95", "p99")}
    except ValueError:
        return None
    return Percentiles(**values)


def _float(number_text: str) -> float | None:
    try:
        return float(number_text)
    except ValueError:
        return None
