"""Reconciles LoadTestSchedules: creates the load test of a scheduled time, and deletes old ones.

A reconcile sends requests only if a load test is due or has to be deleted, or if the status changes. In between, it
looks at the inventory and the clock every few seconds: timers would not notice that the clock jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.api.schedule.spec import ConcurrencyPolicy, LoadTestScheduleSpec, parse_schedule_spec
from llmendpoint_common.contracts.cluster import LOADTEST, LOADTEST_SCHEDULE, FaultReason, ScheduleReason
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.unwatched import sentence
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.policy.rules import sentences, violations_of_template
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.schedule.due import due, is_late, is_wrong
from llmendpoint_operator.schedule.runs import ScheduledRun, is_name_of, load_test, run_name, runs_of, surplus
from llmendpoint_operator.schedule.status import State, conditions, scheduled, status_of, text_of, time_of

#: Time until the next look at the clock and the load tests.
_POLL_SECONDS = 5.0
_RETRY_SECONDS = 10.0


class ScheduleController(Controller[LoadTestScheduleSpec]):
    """Creates the load tests of each schedule."""

    kind = LOADTEST_SCHEDULE
    prunes = False

    def __init__(self, cluster: Cluster, policy: Policy = ALLOW_ALL) -> None:
        super().__init__(cluster, policy)
        #: The scheduled time about which an Event was written last, by its reason.
        self._told: dict[Key, dict[str, datetime]] = {}

    def parse(self, manifest: Manifest) -> LoadTestScheduleSpec:
        """Return the parsed spec."""
        return parse_schedule_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return the status of a schedule whose spec is invalid."""
        state = State(ScheduleReason.INVALID_SPEC, sentence, stalled=True)
        status = {**(manifest.get("status") or {}), **conditions(manifest, state, self._now())}
        status.pop("nextScheduleTime", None)
        return status

    async def gone(self, key: Key) -> None:
        """Forget a schedule that no longer exists. Kubernetes deletes its load tests."""
        self._told.pop(key, None)

    async def course(self, resource: Resource[LoadTestScheduleSpec]) -> Course:
        """Return the one step of every state."""
        return Course(None, partial(self._conclude, resource))

    async def _conclude(self, resource: Resource[LoadTestScheduleSpec], _: tuple[Fault, ...]) -> float:
        unwatched = self._inventory.unwatched(resource.key.namespace, (LOADTEST,))
        if unwatched:
            state = State(ScheduleReason.NOT_WATCHED, sentence(unwatched), reconciling=True)
            await self.write_status(
                resource.manifest, {**resource.status, **conditions(resource.manifest, state, self._now())}
            )
            return _RETRY_SECONDS
        if not self._inventory.is_listed(LOADTEST, resource.key.namespace):
            return _POLL_SECONDS
        fields = self._observed(resource)
        state = await self._advance(resource, fields)
        runs = self._runs(resource)
        refused = await self._trim(resource, runs)
        if refused is not None and not state.stalled:
            state = refused
        now = self._now()
        following = None if resource.spec.suspend or state.stalled else _next(resource.spec, fields, now)
        fields["nextScheduleTime"] = text_of(following)
        await self.write_status(resource.manifest, status_of(resource.manifest, state, runs, fields, now))
        if state.reconciling:
            return _RETRY_SECONDS
        left = _POLL_SECONDS if following is None else max(0.0, (following - now).total_seconds())
        return min(left, _POLL_SECONDS)

    async def _advance(self, resource: Resource[LoadTestScheduleSpec], fields: dict[str, Any]) -> State:
        """Create the load test that is due, if there is one. `fields` are those of the new status."""
        spec, now = resource.spec, self._now()
        forbidden = violations_of_template(self._policy, spec.template.spec)
        if forbidden:
            return State(ScheduleReason.POLICY_VIOLATION, sentences(forbidden), stalled=True)
        since = time_of(fields["scheduledSince"]) or now
        time = due(spec, since, time_of(fields.get("lastScheduleTime")), now)
        if time is None:
            await self._tell_missed(resource, since, time_of(fields.get("lastScheduleTime")))
            return scheduled(spec, now)
        obstacle = await self._make_room(resource, time)
        if obstacle is not None:
            return obstacle
        fault = await self._create(resource, time)
        if fault is not None:
            return await self._refused(resource, time, fault)
        fields["lastScheduleTime"] = text_of(time)
        return scheduled(spec, now)

    async def _make_room(self, resource: Resource[LoadTestScheduleSpec], time: datetime) -> State | None:
        """Apply the concurrency policy. Return the state in which the load test of a time has to wait, or None."""
        spec = resource.spec
        active = [run for run in self._runs(resource) if not run.has_ended and run.time != time]
        if active and spec.concurrency_policy is ConcurrencyPolicy.FORBID:
            names = "; ".join(run.in_words for run in active)
            message = f"The load test of {text_of(time)} waits for {names}."
            await self._tell(resource, "AlreadyActive", time, message)
            return scheduled(spec, self._now(), message)
        if spec.concurrency_policy is ConcurrencyPolicy.REPLACE:
            return await self._delete_all(resource, [run for run in active if not run.is_leaving])
        return None

    async def _refused(self, resource: Resource[LoadTestScheduleSpec], time: datetime, fault: Fault) -> State:
        """Write an Event about a refused write, and return the state of the schedule."""
        stalled = fault.reason is FaultReason.INVALID
        await self._tell(resource, fault.reason, time, fault.message, warning=True)
        return State(fault.reason, fault.message, reconciling=not stalled, stalled=stalled)

    async def _create(self, resource: Resource[LoadTestScheduleSpec], time: datetime) -> Fault | None:
        """Create the load test of a scheduled time. If its name exists, it has been created, or is somebody else's."""
        owner, name = resource.owner, run_name(resource.owner, time)
        if any(run.name == name for run in self._runs(resource)):
            return None
        manifest = load_test(owner, resource.spec, resource.manifest["spec"]["template"], time)
        try:
            written = await self._cluster.objects.add(manifest)
        except API_ERRORS as error:
            if isinstance(error, ApiException) and error.status == HTTPStatus.CONFLICT:
                await self._tell_taken(resource, time)
                return None
            return classify(error, ChildKey(LOADTEST, name))
        self._inventory.wrote_resource(written)
        # If the response comes before the event of the watch, the event shows nothing new and marks nothing.
        self._cluster.mark(Key(LOADTEST, resource.key.namespace, name))
        await self.emit(resource, "Created", f"Created LoadTest {name}.")
        return None

    async def _tell_taken(self, resource: Resource[LoadTestScheduleSpec], time: datetime) -> None:
        """Write an Event if the name of a load test belongs to somebody else's object."""
        name = run_name(resource.owner, time)
        found = self._inventory.resource(Key(LOADTEST, resource.key.namespace, name))
        if found is not None and not runs_of(resource.owner, [found]):
            message = (
                f"LoadTest {name} exists but does not belong to this schedule. The run of {text_of(time)} is skipped."
            )
            await self._tell(resource, FaultReason.NAME_CONFLICT, time, message, warning=True)

    async def _tell_missed(
        self, resource: Resource[LoadTestScheduleSpec], since: datetime, last: datetime | None
    ) -> None:
        """Write an Event if the starting deadline of the last scheduled time has passed without a load test."""
        spec, now = resource.spec, self._now()
        time = None if spec.suspend else spec.cron.last(now)
        if time is None or time <= max(since, last or since) or not is_late(spec, time, now):
            return
        message = f"The load test of {text_of(time)} was not created within {spec.starting_deadline_seconds} seconds."
        await self._tell(resource, "Missed", time, message, warning=True)

    async def _trim(self, resource: Resource[LoadTestScheduleSpec], runs: Sequence[ScheduledRun]) -> State | None:
        """Delete the load tests that exceed the history limits. Return the state if one cannot be deleted."""
        return await self._delete_all(resource, surplus(runs, resource.spec))

    async def _delete_all(self, resource: Resource[LoadTestScheduleSpec], runs: Sequence[ScheduledRun]) -> State | None:
        """Delete load tests, up to the first one whose deletion is refused. Return the state if one is."""
        for run in runs:
            uid = run.body["metadata"]["uid"]
            try:
                await self._cluster.objects.delete(LOADTEST, resource.key.namespace, run.name, uid)
            except API_ERRORS as error:
                return await self._refused(resource, run.time, classify(error, ChildKey(LOADTEST, run.name)))
        return None

    def _observed(self, resource: Resource[LoadTestScheduleSpec]) -> dict[str, Any]:
        """Return the fields of the status about the schedule.

        It applies from now on if it was changed, or if the times in the status are those of a wrong clock.
        """
        status, spec, now = resource.status, resource.spec, self._now()
        named = f"{spec.schedule} {spec.time_zone}"
        last, since = status.get("lastScheduleTime"), status.get("scheduledSince")
        if any(is_wrong(time_of(text), now) for text in (last, since)):
            last, since = None, text_of(now)
        elif "observedSchedule" not in status:
            since = resource.manifest["metadata"]["creationTimestamp"]
        elif status["observedSchedule"] != named or since is None:
            since = text_of(now)
        return {"observedSchedule": named, "scheduledSince": since, "lastScheduleTime": last}

    def _runs(self, resource: Resource[LoadTestScheduleSpec]) -> list[ScheduledRun]:
        """Return the load tests of a schedule, the oldest first."""
        keys = (
            key
            for key in self._inventory.resources()
            if key.kind == LOADTEST and key.namespace == resource.key.namespace and is_name_of(resource.owner, key.name)
        )
        return runs_of(resource.owner, [body for key in keys if (body := self._inventory.resource(key)) is not None])

    async def _tell(
        self,
        resource: Resource[LoadTestScheduleSpec],
        reason: str,
        time: datetime,
        message: str,
        *,
        warning: bool = False,
    ) -> None:
        """Write an Event, once for each reason and scheduled time."""
        told = self._told.setdefault(resource.key, {})
        if told.get(reason) != time:
            told[reason] = time
            await self.emit(resource, reason, message, warning=warning)


def _next(spec: LoadTestScheduleSpec, fields: dict[str, Any], now: datetime) -> datetime | None:
    """Return the next time at which a load test is created. `fields` are those of the new status."""
    known = (time_of(fields.get(name)) for name in ("scheduledSince", "lastScheduleTime"))
    return spec.cron.next(max([now, *(time for time in known if time is not None)]))
