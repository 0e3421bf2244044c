"""Typed models of LoadTestSchedule: the source of its CustomResourceDefinition, and what the operator reads."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import AddedLabels, Annotations, ApiModel, rules
from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.api.schedule.cron import MACROS, Cron, check_expression, check_zone, cron_of
from llmendpoint_common.api.schedule.status import LoadTestScheduleStatus

#: A name of a run is that of its schedule, a dash, and the number of the minute, which has at most 9 digits until 3871.
MAX_NAME_LENGTH = 40
_FIELD = "[0-9A-Za-z*/,-]+"
SCHEDULE_PATTERN = f"^({'|'.join(MACROS)}|{_FIELD}( +{_FIELD}){{4}})$"
_ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"


TimeZone = Annotated[str, Field(pattern=_ZONE_PATTERN, max_length=64), AfterValidator(check_zone)]


class ConcurrencyPolicy(StrEnum):
    """What happens if a load test is due while an earlier one of the schedule has not ended."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class TemplateMetadata(ApiModel):
    """Metadata of the load tests."""

    labels: AddedLabels = Field(default_factory=dict, description="Labels of the load tests.")
    annotations: Annotations = Field(default_factory=dict, description="Annotations of the load tests.")


class LoadTestTemplate(ApiModel):
    """The load test that the schedule creates."""

    metadata: TemplateMetadata = Field(default_factory=TemplateMetadata, description="Metadata of the load tests.")
    spec: LoadTestSpec = Field(description="Specification of the load tests.")


class LoadTestScheduleSpec(ApiModel):
    """Specification of a schedule. A change applies from the next scheduled time on."""

    schedule: Annotated[
        str, Field(pattern=SCHEDULE_PATTERN, min_length=6, max_length=128), AfterValidator(check_expression)
    ] = Field(
        description="Times in cron format: minute, hour, day of the month, month and day of the week, for example "
        f"0 3 * * 1-5, or one of {', '.join(MACROS)}. If both day fields are restricted, one of them has to match."
    )
    time_zone: TimeZone = Field(
        defaults.TIME_ZONE,
        description="Time zone of the schedule, as a name of the IANA database such as Europe/Berlin. A time that a "
        "change of the clocks skips is run at the change, and one that occurs twice is run once. Schedules that run "
        f"each hour or more often follow the elapsed time. Defaults to {defaults.TIME_ZONE}.",
        json_schema_extra=rules(
            ("self != 'Local'", "must be the name of a time zone such as Europe/Berlin or Etc/UTC")
        ),
    )
    concurrency_policy: ConcurrencyPolicy = Field(
        ConcurrencyPolicy.FORBID,
        description="What happens if a load test is due while an earlier one of this schedule has not ended. Forbid: "
        "it is not created until the earlier one has ended, and not at all if the next one is due or "
        "startingDeadlineSeconds has passed by then. Allow: both run, and disturb each other's measurements if they "
        f"have the same target. Replace: the earlier one is deleted. Defaults to {ConcurrencyPolicy.FORBID}.",
    )
    starting_deadline_seconds: int | None = Field(
        None,
        ge=10,
        le=2_147_483_647,
        description="Number of seconds after the scheduled time within which a missed load test is still created, for "
        "example after the operator was down. Only the last missed one is created. If absent, there is no limit.",
    )
    suspend: bool = Field(
        False,
        description="Whether no load tests are created. Those that have been created are not affected. Times that pass "
        "while it is true count as missed, and the last one is created when it becomes false, unless "
        "startingDeadlineSeconds has passed. Defaults to false.",
    )
    successful_runs_history_limit: int = Field(
        defaults.SUCCESSFUL_RUNS,
        ge=0,
        le=100,
        description="Number of ended load tests to keep whose verdict is Passed, or None without a cancellation. Older "
        f"ones are deleted. Defaults to {defaults.SUCCESSFUL_RUNS}.",
    )
    failed_runs_history_limit: int = Field(
        defaults.FAILED_RUNS,
        ge=0,
        le=100,
        description="Number of all other ended load tests to keep. Older ones are deleted. "
        f"Defaults to {defaults.FAILED_RUNS}.",
    )
    template: LoadTestTemplate = Field(
        description="Load test to create at each scheduled time. Its name is that of the schedule, a dash, and the "
        "scheduled time in minutes since 1970."
    )

    @property
    def cron(self) -> Cron:
        """The scheduled times."""
        return cron_of(self.schedule, self.time_zone)


class LoadTestSchedule(BaseModel):
    """A schedule that creates load tests, as a CronJob creates Jobs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"self.metadata.name.size() <= {MAX_NAME_LENGTH} && "
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must start with a letter, end with a letter or digit, contain only lowercase letters, "
                f"digits and dashes, and have at most {MAX_NAME_LENGTH} characters",
            )
        )
    )

    spec: LoadTestScheduleSpec = Field(description="Specification of the schedule.")
    status: LoadTestScheduleStatus | None = Field(
        None, description="Observed state of the schedule. The operator writes it."
    )


def parse_schedule_spec(manifest: dict[str, Any]) -> LoadTestScheduleSpec:
    """Return the spec of a LoadTestSchedule. Raises pydantic.ValidationError, which names the field."""
    return LoadTestScheduleSpec.model_validate(manifest.get("spec", {}))
