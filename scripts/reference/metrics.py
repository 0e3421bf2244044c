"""Generates the reference of the metrics of the sidecar, the operator and the load generator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast
from unittest.mock import MagicMock

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_common.contracts.sidecar import METRIC_PREFIX
from llmendpoint_loadjob.status import RunMetrics
from llmendpoint_operator.admin.metrics import OperatorMetrics
from llmendpoint_operator.admin.resources import ResourceSeries
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_sidecar.meter.families import COUNTERS, GAUGES, HISTOGRAMS
from reference.markdown import HEADER, code, plain, table

_TEXT = """# Metrics

All metrics are on `/metrics`, in the Prometheus text format or as OpenMetrics. [metering.md](../metering.md) explains
how the sidecar counts, and [operator.md](../operator.md) how to read the metrics of the operator.

"""
_SIDECAR = """## Sidecar

On port 8001 of each pod of an endpoint. Prometheus adds the labels `namespace`, `pod` and `llmendpoint`.

"""
_OPERATOR = """## Operator

On port 8080 of the operator. Only the process that serves a namespace exposes the metrics of its resources.

"""
_LOADJOB = """## Load generator

On the address of `--status-listen`: port 8001 of the pods of a LoadTest.

"""
#: Resources that have everything from which a series is made.
_RESOURCES: dict[str, dict[str, Any]] = {
    LLMENDPOINT: {
        "kind": LLMENDPOINT,
        "metadata": {"namespace": "models", "name": "assistant", "uid": "1"},
        "spec": {"models": [{"name": "llama3.2:3b", "load": "Preload"}]},
        "status": {
            "gpu": "1 nvidia.com/gpu",
            "url": "http://assistant.models.svc:11434",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    },
    LOADTEST: {
        "kind": LOADTEST,
        "metadata": {"namespace": "models", "name": "nightly", "uid": "2"},
        "spec": {"endpointRef": {"name": "assistant"}},
        "status": {
            "verdict": "Passed",
            "startTime": "2026-01-01T00:00:00Z",
            "completionTime": "2026-01-01T00:01:00Z",
            "summary": {
                "requests": 1,
                "errors": 0,
                "requestsPerSecond": "1",
                "outputTokens": 1,
                "ttft": {"p50": "1s"},
            },
            "conditions": [{"type": "Complete", "status": "True"}],
        },
    },
}


class Row(NamedTuple):
    """A metric: its name as Prometheus stores it, type, labels and meaning."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [code(self.name), self.type, ", ".join(code(label) for label in self.labels), plain(self.text)]


def metrics_page() -> str:
    """Return the page of all metrics."""
    parts = [HEADER, _TEXT]
    for heading, rows in ((_SIDECAR, sidecar_rows()), (_OPERATOR, operator_rows()), (_LOADJOB, loadjob_rows())):
        parts += [heading, table(["metric", "type", "labels", "description"], [row.cells() for row in rows]), "\n"]
    return "".join(parts).rstrip() + "\n"


def sidecar_rows() -> list[Row]:
    """Return the metrics of the sidecar."""
    rows = [Row(f"{METRIC_PREFIX}{name}_total", "counter", one.labels, one.help) for name, one in COUNTERS.items()]
    by = ("model_name", "operation")
    rows += [Row(METRIC_PREFIX + name, "histogram", by, one.help) for name, one in HISTOGRAMS.items()]
    rows += [Row(METRIC_PREFIX + name, "gauge", one.labels, one.help) for name, one in GAUGES.items()]
    return rows


def operator_rows() -> list[Row]:
    """Return the metrics of the operator about itself and about its resources.

    The parts of an operator that does not run are empty, so its families have no samples, but all have their labels.
    """
    series = ResourceSeries(cast("Inventory", _Sample()), lambda _: True)
    text = b"".join(series.render(openmetrics=False)).decode()
    return [*_rows(OperatorMetrics(MagicMock()).collect()), *_resource_rows(text)]


def loadjob_rows() -> list[Row]:
    """Return the metrics of the load generator."""
    progress = Progress(percent=0, requests=0, errors=0, in_flight=0, output_tokens=0, elapsed_seconds=0.0)
    return _rows(RunMetrics(lambda: progress).collect())


def _rows(families: Iterable[Metric]) -> list[Row]:
    return [
        Row(
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            tuple(family._labelnames),  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public name
            family.documentation,
        )
        for family in families
    ]


def _resource_rows(text: str) -> list[Row]:
    rows = []
    for family in text_string_to_metric_families(text):
        if not family.samples:
            raise ValueError(f"{family.name} has no series: add what it needs to _RESOURCES in {__file__}")
        rows.append(Row(family.name, family.type, tuple(family.samples[0].labels), family.documentation))
    return rows


class _Sample:
    """An inventory with one resource of each kind."""

    def resources(self) -> list[Key]:
        """Return the keys of the resources."""
        return [Key(kind, one["metadata"]["namespace"], one["metadata"]["name"]) for kind, one in _RESOURCES.items()]

    def resource(self, key: Key) -> dict[str, Any]:
        """Return a resource."""
        return _RESOURCES[key.kind]

    def own_child(self, *_: object) -> None:
        """Return no child."""

    def pods(self, *_: object) -> list[dict[str, Any]]:
        """Return no pods."""
        return []
