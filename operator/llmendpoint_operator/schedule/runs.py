"""The load tests of a schedule: their names and manifests, which of them are active, and which are deleted.

The name of a load test has the minute of its scheduled time, as with CronJobs. Two operators, or one that was killed
before it had written the status, therefore cannot create two load tests for one scheduled time. Has no side effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmendpoint_common.api.schedule.spec import LoadTestScheduleSpec
from llmendpoint_common.contracts.cluster import (
    API_VERSION,
    LOADTEST,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SCHEDULE_LABEL,
    LoadTestCondition,
)
from llmendpoint_common.contracts.loadrun import Verdict, VerdictReason
from llmendpoint_operator.kube.conditions import is_true, timestamp
from llmendpoint_operator.kube.owner import Manifest, Owner, is_controlled_by

SCHEDULED_ANNOTATION = "llmendpoint.dev/scheduled-time"


def run_name(owner: Owner, time: datetime) -> str:
    """Return the name of the load test of a scheduled time."""
    return f"{owner.name}-{int(time.timestamp()) // 60}"


def load_test(owner: Owner, spec: LoadTestScheduleSpec, template: Manifest, time: datetime) -> Manifest:
    """Return the load test of a scheduled time. `template` is the template as written, without our defaults."""
    given = spec.template.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": LOADTEST,
        "metadata": {
            "name": run_name(owner, time),
            "namespace": owner.namespace,
            "labels": {**given.labels, SCHEDULE_LABEL: owner.name, MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": {**given.annotations, SCHEDULED_ANNOTATION: timestamp(time)},
            "ownerReferences": [owner.reference()],
        },
        "spec": template["spec"],
    }


@dataclass(frozen=True)
class ScheduledRun:
    """A load test of a schedule, and its scheduled time."""

    body: Manifest
    time: datetime

    @property
    def name(self) -> str:
        """The name of the LoadTest."""
        return str(self.body["metadata"]["name"])

    @property
    def status(self) -> dict[str, Any]:
        """The status of the LoadTest."""
        return self.body.get("status") or {}

    @property
    def has_ended(self) -> bool:
        """Whether the run has a verdict."""
        return is_true(self.status.get("conditions") or [], LoadTestCondition.COMPLETE)

    @property
    def is_leaving(self) -> bool:
        """Whether the LoadTest is being deleted."""
        return "deletionTimestamp" in self.body["metadata"]

    @property
    def in_words(self) -> str:
        """The name of a run that has not ended, and what it waits for. Its progress, which changes often, is left out.

        Without a start time, a run may wait without a limit, for example for its LLMEndpoint.
        """
        if self.is_leaving:
            finalizers = ", ".join(self.body["metadata"].get("finalizers") or ["none"])
            return f"{self.name}, which is being deleted (finalizers: {finalizers})"
        rows = {row["type"]: row for row in self.status.get("conditions") or []}
        complete = rows.get(LoadTestCondition.COMPLETE)
        if complete is None or "startTime" in self.status:
            return f"{self.name}, which has not ended"
        return f"{self.name}, which has not started ({complete['reason']}: {complete['message'].rstrip('. ')})"

    @property
    def verdict(self) -> str:
        """The verdict of a run that has ended."""
        return str(self.status.get("verdict", ""))

    @property
    def is_successful(self) -> bool:
        """Whether the run has passed, or had no objectives and was not canceled."""
        if not self.has_ended:
            return False
        reasons = {row["type"]: row["reason"] for row in self.status.get("conditions") or []}
        canceled = reasons.get(LoadTestCondition.PASSED) == VerdictReason.CANCELED
        return self.verdict == Verdict.PASSED or (self.verdict == Verdict.NONE and not canceled)


def runs_of(owner: Owner, bodies: Iterable[Manifest]) -> list[ScheduledRun]:
    """Return the load tests among `bodies` that this schedule controls, the oldest first."""
    found = [ScheduledRun(body, _time(owner, body)) for body in bodies if is_controlled_by(body, owner)]
    return sorted(found, key=lambda run: (run.time, run.name))


def is_name_of(owner: Owner, name: str) -> bool:
    """Return whether a load test of this schedule could have a name."""
    return name.removeprefix(f"{owner.name}-").isdecimal()


def surplus(runs: Sequence[ScheduledRun], spec: LoadTestScheduleSpec) -> list[ScheduledRun]:
    """Return the ended runs that exceed the history limits, the oldest first."""
    ended = [run for run in runs if run.has_ended and not run.is_leaving]
    groups = (
        ([run for run in ended if run.is_successful], spec.successful_runs_history_limit),
        ([run for run in ended if not run.is_successful], spec.failed_runs_history_limit),
    )
    return [run for group, limit in groups for run in group[: max(0, len(group) - limit)]]


def _time(owner: Owner, body: Manifest) -> datetime:
    minutes = str(body["metadata"]["name"]).removeprefix(f"{owner.name}-")
    return datetime.fromtimestamp(60 * int(minutes) if minutes.isdecimal() else 0, UTC)
