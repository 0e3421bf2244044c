"""The CustomResourceDefinitions of the operator. `make generate` writes them to the manifests and the chart.

To add a resource, add a row to the table of kinds, which has its name and plural, and an item to `RESOURCES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from llmendpoint_common.api.endpoint.spec import LLMEndpoint
from llmendpoint_common.api.loadtest.spec import LoadTest
from llmendpoint_common.api.schedule.spec import LoadTestSchedule
from llmendpoint_common.contracts.cluster import (
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_SCHEDULE,
    EndpointCondition,
    EndpointReason,
)
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.crd.openapi import structural_schema
from llmendpoint_operator.kube.conditions import UNSEEN_GENERATION


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`. If `wide`, it is only shown with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> dict[str, Any]:
        """Return the column in the form of the API."""
        column = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return {**column, "priority": 1} if self.wide else column


@dataclass(frozen=True)
class Resource:
    """A resource of the operator. `model` has the fields `spec` and `status`. `scalable` enables `kubectl scale`."""

    kind: str
    short_name: str
    model: type[BaseModel]
    columns: tuple[Column, ...]
    scalable: bool = False


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", type="date")


def _condition(kind: str, field: str) -> str:
    """Return the JSON path of a condition's field."""
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


RESOURCES = (
    Resource(
        LLMENDPOINT,
        "llm",
        LLMEndpoint,
        (
            Column("Ready", _condition("Ready", "status"), "Whether at least one replica is ready to serve requests."),
            Column("Model", ".spec.models[0].name", "Name of the first model."),
            Column(
                "Replicas",
                ".status.readyReplicas",
                "Number of replicas that are ready to serve requests.",
                type="integer",
            ),
            Column("GPU", ".status.gpu", "Number and type of the GPUs of one replica."),
            Column("URL", ".status.url", "Base URL for clients in the cluster."),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), "Reason of the condition Ready.", wide=True),
            Column(
                "VRAM",
                ".status.models[0].vramBytes",
                "GPU memory that the first model uses on one replica, in bytes.",
                type="integer",
                wide=True,
            ),
            Column(
                "Tokens/s",
                ".status.capacity.tokensPerSecond",
                "Generated tokens per second over all replicas, as the newest passed load test measured.",
                wide=True,
            ),
        ),
        scalable=True,
    ),
    Resource(
        LOADTEST,
        "lt",
        LoadTest,
        (
            Column("Verdict", ".status.verdict", "Verdict of the run: Passed, Failed, Invalid, Error or None."),
            Column("Reason", _condition("Passed", "reason"), "Reason of the condition Passed."),
            Column("Target", ".status.target", "URL of the server under test."),
            Column("Req/s", ".status.summary.requestsPerSecond", "Number of successful requests per second."),
            Column("TTFT-p95", ".status.summary.ttft.p95", "95th percentile of the time to first token."),
            _AGE,
        ),
    ),
    Resource(
        LOADTEST_SCHEDULE,
        "lts",
        LoadTestSchedule,
        (
            Column("Schedule", ".spec.schedule", "Scheduled times in cron format."),
            Column("TimeZone", ".spec.timeZone", "Time zone of the schedule."),
            Column("Suspend", ".spec.suspend", "Whether no load tests are created.", type="boolean"),
            Column("Active", ".status.active[*].name", "Load tests that have not ended."),
            Column("Last-Schedule", ".status.lastScheduleTime", "Last scheduled time.", type="date"),
            Column("Last-Verdict", ".status.lastRun.verdict", "Verdict of the newest load test that has ended."),
            _AGE,
            Column(
                "Last-Success",
                ".status.lastSuccessfulTime",
                "Last time that a load test passed.",
                type="date",
                wide=True,
            ),
        ),
    ),
)

#: The status of a new object, until the operator writes one. Without it, tools that use kstatus (Flux, `helm --wait`)
#: take an object for settled that the operator has not seen yet. Gateway API has such defaults for the same reason.
_UNSEEN = {
    "conditions": [
        {
            "type": EndpointCondition.RECONCILING.value,
            "status": "True",
            "reason": EndpointReason.PENDING.value,
            "message": "The operator has not seen this object yet. If this does not change, check that the operator "
            "runs, and that it watches this namespace.",
            "observedGeneration": UNSEEN_GENERATION,
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
}

_SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def custom_resource_definitions(resources: Iterable[Resource] = RESOURCES) -> list[dict[str, Any]]:
    """Return the CRDs."""
    return [_definition(resource) for resource in resources]


def _definition(resource: Resource) -> dict[str, Any]:
    kind = KINDS[resource.kind]
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "singular": kind.name.lower(),
        "plural": kind.plural,
        "shortNames": [resource.short_name],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "labels": {"app.kubernetes.io/part-of": "llmendpoint"}},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [_version(resource, kind.version)],
        },
    }


def _version(resource: Resource, name: str) -> dict[str, Any]:
    schema = structural_schema(resource.model)
    # The API server adds apiVersion and kind, and defines the content of metadata.
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["status"]["default"] = _UNSEEN
    return {
        "name": name,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": _SCALE} if resource.scalable else {"status": {}},
        "additionalPrinterColumns": [column.manifest() for column in resource.columns],
    }
