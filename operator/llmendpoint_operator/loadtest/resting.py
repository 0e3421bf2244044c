"""The steps of a run that has ended: its objects are kept in order, and it is deleted when its time has come."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmendpoint_common.contracts.cluster import LOADTEST
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.context import Context, Run
from llmendpoint_operator.loadtest.result_map import result_uids


class Resting:
    """Keeps runs that have ended."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def conclude(self, run: Run, _: tuple[Fault, ...]) -> float | None:
        """Keep the objects of a run that has ended in order, and delete the LoadTest when its time has come."""
        context = self._context
        await context.write_status(run.manifest, phases.observed(run.manifest))
        if run.spec.endpoint_ref is not None:
            context.cluster.measurements.record(run.key, run.spec.endpoint_ref.name, run.status)
        pauses: list[float | None] = []
        view = context.view(run)
        if view.job is not None and not view.job.terminating and not view.has_ended and "summary" not in run.status:
            # The verdict is final, so nothing must run any more. This includes a pod that has not started yet.
            await context.stop(run, view.job)
        if run.status.get("startTime"):
            await context.maps.revoke(run.key, run.owner)
            pauses.append((await context.maps.tend(run.key, run.owner, result_uids(run.owner, run.status))).pause)
        pauses.append(await self._expire(run))
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _expire(self, run: Run) -> float | None:
        lifetime = run.spec.ttl_seconds_after_finished
        if lifetime is None:
            return None
        ended = datetime.fromisoformat(run.status["completionTime"])
        left = (ended + timedelta(seconds=lifetime) - self._context.now()).total_seconds()
        if left > 0:
            return left
        await self._context.cluster.objects.delete(LOADTEST, run.owner.namespace, run.owner.name, run.owner.uid)
        return None
