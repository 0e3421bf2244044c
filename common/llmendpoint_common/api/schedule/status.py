"""Status of a LoadTestSchedule. The operator writes it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, list_map
from llmendpoint_common.contracts.loadrun import Verdict

_TIME: dict[str, Any] = {"format": "date-time"}


class ActiveRun(ApiModel):
    """A load test of the schedule that has not ended."""

    name: str = Field(description="Name of the LoadTest.")


class LastRun(ApiModel):
    """The newest load test of the schedule that has ended."""

    name: str = Field(description="Name of the LoadTest.")
    verdict: Verdict = Field(description="Its verdict: Passed, Failed, Invalid, Error or None.")


class LoadTestScheduleStatus(ApiModel):
    """Observed state of a schedule."""

    observed_generation: int | None = Field(
        None,
        description="Generation of the spec that the operator processed last.",
        json_schema_extra={"format": "int64"},
    )
    last_schedule_time: str | None = Field(
        None,
        description="Scheduled time of the newest load test that was created.",
        json_schema_extra=_TIME,
    )
    last_successful_time: str | None = Field(
        None,
        description="Time at which a load test of the schedule last ended with the verdict Passed, or None without a "
        "cancellation.",
        json_schema_extra=_TIME,
    )
    observed_schedule: str | None = Field(
        None, description="Schedule and time zone that the operator processed last, for example 0 3 * * * Etc/UTC."
    )
    scheduled_since: str | None = Field(
        None,
        description="Time from which on observedSchedule applies. Scheduled times before it do not count as missed.",
        json_schema_extra=_TIME,
    )
    next_schedule_time: str | None = Field(
        None, description="Next scheduled time. Absent while the schedule is suspended.", json_schema_extra=_TIME
    )
    active: list[ActiveRun] = Field(
        default_factory=list,
        description="Load tests of the schedule that have not ended.",
        json_schema_extra=list_map("name"),
    )
    last_run: LastRun | None = Field(None, description="Newest load test of the schedule that has ended.")
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Reconciling and Stalled.",
        json_schema_extra=list_map("type"),
    )
