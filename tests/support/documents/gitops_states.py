"""LLMEndpoints and LoadTests in every state, with what kstatus and Argo CD are expected to make of them.

The statuses come from the operator's own functions, so that the tools are tested with what the operator really writes.
`tests/gitops/test_testdata.py` writes the objects to files, which the Go tests read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmendpoint_common.api.schedule.spec import parse_schedule_spec
from llmendpoint_common.contracts.cluster import (
    API_VERSION,
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_SCHEDULE,
    FaultReason,
    ScheduleReason,
)
from llmendpoint_operator.crd.definitions import custom_resource_definitions
from llmendpoint_operator.schedule import status as schedule_status

UNSEEN = custom_resource_definitions()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"][
    "default"
]
CREATED = "2026-01-02T03:00:00Z"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Manifest = dict[str, Any]


@dataclass(frozen=True)
class State:
    """An object in one state.

    `kstatus` is its status as Flux and `helm --wait` compute it, `health` its health in Argo CD. `shown` is the message
    in Argo CD: the type of the condition whose message it is, or the text itself.
    """

    name: str
    body: Manifest
    kstatus: str
    health: str
    shown: str

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def message(self) -> str:
        """The message that Argo CD shows."""
        for condition in self.body.get("status", {}).get("conditions", []):
            if condition["type"] == self.shown:
                return str(condition["message"])
        return self.shown


def manifest(kind: str, name: str, spec: Manifest, generation: int = 1, status: Manifest | None = None) -> Manifest:
    """Return an object as the API server returns it."""
    metadata = {
        "name": name,
        "namespace": "models",
        "uid": "0b9c2a4e-6f0d-4c43-9a57-3f4e0c1a8d11",
        "resourceVersion": "1234",
        "creationTimestamp": CREATED,
        "generation": generation,
    }
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": status or UNSEEN}


def edited(body: Manifest, **spec: Any) -> Manifest:
    """Return an object whose spec was changed after its status was written."""
    metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
    return {**body, "metadata": metadata, "spec": {**body["spec"], **spec}}


def deleting(body: Manifest) -> Manifest:
    """Return an object that waits for its finalizers after it was deleted."""
    metadata = {**body["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["example.org/keep"]}
    return {**body, "metadata": metadata}


def schedules() -> Iterator[State]:
    """Yield a LoadTestSchedule in each state."""
    spec = {"schedule": "0 3 * * *", "template": {"spec": {"endpointRef": {"name": "assistant"}}}}
    name, waiting = "nightly", "Waiting for the operator"
    yield State("new", manifest(LOADTEST_SCHEDULE, name, spec), "InProgress", "Progressing", waiting)

    def schedule(state: schedule_status.State, **changes: Any) -> Manifest:
        body = manifest(LOADTEST_SCHEDULE, name, {**spec, **changes})
        return {**body, "status": schedule_status.status_of({**body, "status": {}}, state, [], {}, NOW)}

    parsed = parse_schedule_spec({"spec": spec})
    scheduled = schedule(schedule_status.scheduled(parsed, NOW))
    yield State("scheduled", scheduled, "Current", "Healthy", "Load tests are started on schedule")
    held = schedule_status.State(FaultReason.QUOTA_EXCEEDED, "LoadTest/nightly-1: exceeded quota.", reconciling=True)
    yield State("held", schedule(held), "InProgress", "Progressing", "Reconciling")
    pausing = parse_schedule_spec({"spec": {**spec, "suspend": True}})
    suspended = schedule(schedule_status.scheduled(pausing, NOW), suspend=True)
    yield State("suspended", suspended, "Current", "Healthy", "The schedule is suspended")
    wrong = schedule_status.State(ScheduleReason.INVALID_SPEC, "spec.schedule: not a cron expression", stalled=True)
    yield State("stalled", schedule(wrong), "Failed", "Degraded", "Stalled")


KINDS = (LLMENDPOINT, LOADTEST, LOADTEST_SCHEDULE)
