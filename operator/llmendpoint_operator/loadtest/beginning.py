"""The steps of a run that has not started: it waits for what it needs, and then its Job is created and released."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import FaultReason, LoadTestReason
from llmendpoint_common.process.errors import NotReadyError, RunRefusedError
from llmendpoint_operator.kube.fault import Fault, in_words
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.claim import check_claim
from llmendpoint_operator.loadtest.context import POLL_SECONDS, Context, Run
from llmendpoint_operator.loadtest.desired import desired
from llmendpoint_operator.loadtest.following import Following
from llmendpoint_operator.loadtest.resources.job import job_name
from llmendpoint_operator.loadtest.resources.rbac import result_name
from llmendpoint_operator.loadtest.sources import sources_of, target_of
from llmendpoint_operator.policy.rules import sentences
from llmendpoint_operator.reconcile.controller import Course
from llmendpoint_operator.reconcile.plan import stamp_of, stamped

# Objects that are not ours are not watched. They are read from the API server.
_READING_SECONDS = 10.0


class Beginning:
    """Starts runs."""

    def __init__(self, context: Context, following: Following) -> None:
        self._context = context
        self._following = following

    async def course(self, run: Run) -> Course:
        """Return the steps for a run that has not started."""
        if run.spec.suspend:
            return Course(None, partial(self._suspend, run))
        if run.forbidden:
            return Course(None, partial(self._forbid, run))
        if self._context.unwatched(run):
            return Course(None, partial(self._report_unwatched, run))
        return await self._prepared(run)

    async def _prepared(self, run: Run) -> Course:
        """Return the steps for a run that is wanted and allowed, which depend on what it needs."""
        try:
            target = target_of(self._context, run)
        except NotReadyError as reason:
            return Course(None, partial(self._wait, run, str(reason)))
        except RunRefusedError as error:
            return Course(None, partial(self._hold, run, error.reason, str(error), stalled=True))
        try:
            await check_claim(self._context, run)
            sources = await sources_of(self._context, run)
        except NotReadyError as reason:
            hold = partial(self._hold, run, LoadTestReason.PENDING, str(reason), obstacle=reason.obstacle)
            return Course(None, hold)
        except RunRefusedError as error:
            return Course(None, partial(self._hold, run, error.reason, str(error), stalled=True))
        children = desired(run.owner, run.spec, target, sources, self._context.settings)
        if await self._discarded(run, children[-1]):
            return Course(None, partial(self._wait, run, "The Job of an earlier spec is being deleted."))
        return Course(children, partial(self._start, run, target))

    async def _suspend(self, run: Run, _: tuple[Fault, ...]) -> None:
        phase = phases.suspended()
        await self._context.tell(run, phase)
        await self._context.write(run, phase)

    async def _wait(self, run: Run, reason: str, _: tuple[Fault, ...] = ()) -> float:
        await self._context.write(run, phases.waiting(reason))
        return POLL_SECONDS

    async def _hold(
        self,
        run: Run,
        reason: str,
        message: str,
        _: tuple[Fault, ...] = (),
        *,
        obstacle: str = "",
        stalled: bool = False,
    ) -> float:
        """Say what keeps the run from starting, or end it if its deadline has passed.

        `obstacle` is the part of the message that stays true after the end. It is empty if this is the whole message.
        """
        now = self._context.now()
        deadline = phases.deadline_of(run.status, now, stalled=stalled)
        if datetime.fromisoformat(deadline) <= now:
            return await self._context.finish(run, phases.overdue(obstacle or message, now))
        phase = (phases.refused if stalled else phases.held)(reason, message, deadline)
        await self._context.warn(run, phase)
        await self._context.write(run, phase)
        left = (datetime.fromisoformat(deadline) - now).total_seconds()
        return min(left, POLL_SECONDS if stalled else _READING_SECONDS)

    async def _forbid(self, run: Run, _: tuple[Fault, ...]) -> None:
        phase = phases.forbidden(sentences(run.forbidden))
        await self._context.warn(run, phase)
        await self._context.write(run, phase)

    async def _report_unwatched(self, run: Run, _: tuple[Fault, ...]) -> float:
        return await self._context.report_unwatched(run)

    async def _discarded(self, run: Run, wanted: Manifest) -> bool:
        """Delete a Job that was created for another spec before the run started: its pod cannot be changed."""
        job = self._context.job(run)
        if job is None or job.terminating or job.applied_hash == stamp_of(stamped(wanted)):
            return job is not None and job.terminating
        await self._context.stop(run, job)
        return True

    async def _start(self, run: Run, target: ResolvedTarget, refused: tuple[Fault, ...]) -> float:
        if refused:
            # Invalid is what the spec says. Anything else is an object or a rule of the cluster, which can change.
            faults = sorted(refused, key=lambda fault: fault.reason is not FaultReason.INVALID)
            stalled = faults[0].reason is FaultReason.INVALID
            return await self._hold(run, faults[0].reason, in_words(faults), stalled=stalled)
        job, maps = self._context.job(run), self._result_maps(run)
        if job is None or len(maps) < run.spec.load.parallelism:
            return POLL_SECONDS
        fields = phases.description(run.spec, target)
        await self._context.write(run, phases.starting(job_name(run.owner), maps, fields, self._context.now()))
        if not self._context.has_started(run):
            # The LoadTest has just been deleted, so nothing was written.
            return POLL_SECONDS
        # From now on the pods may change the ConfigMaps, so they have to be known.
        await self._context.maps.tend(run.key, run.owner, maps)
        return await self._following.release(run, job)

    def _result_maps(self, run: Run) -> dict[str, str]:
        """Return the UIDs of the result ConfigMaps that exist, by name."""
        inventory, owner = self._context.cluster.inventory, run.owner
        names = [result_name(owner, index) for index in range(run.spec.load.parallelism)]
        found = [inventory.own_child(run.key, "ConfigMap", name, owner.uid) for name in names]
        return {child.key.name: child.uid for child in found if child is not None}
