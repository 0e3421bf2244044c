"""The steps of a run that has started: its Job is released and followed, and the run ends with its result."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LoadTestReason
from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.inventory import Child
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.context import POLL_SECONDS, Context, Run
from llmendpoint_operator.loadtest.ending import Ending
from llmendpoint_operator.loadtest.observe import RunView
from llmendpoint_operator.loadtest.progress import RunProgress
from llmendpoint_operator.loadtest.resources.job import RELEASE
from llmendpoint_operator.loadtest.result_map import result_uids
from llmendpoint_operator.loadtest.starter import Starter

#: Time for the partial result of an interrupted run: the grace period of its pods, and a margin. The pod of a node that
#: is lost stays in the API for minutes.
_PARTIAL_SECONDS = 45.0
#: A run whose requests continue is written to etcd this often at most. Its pods are asked every `POLL_SECONDS`.
WRITE_SECONDS = 5.0
_STARTING = "The pod of the run is starting."
_TOGETHER = "All pods of a run start together, so the run has ended."


class Following:
    """Follows runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ending = Ending(context)
        self._starter = Starter(context.cluster.pods)
        #: The time at which the interruption of a run was seen.
        self._interrupted: dict[Key, datetime] = {}
        #: The time at which the progress of a run was written last, and the note that was in its message.
        self._written: dict[Key, tuple[datetime, str]] = {}
        #: The last answer of each pod of a run, by the name of the pod.
        self._answers: dict[Key, dict[str, Progress]] = {}

    def forget(self, key: Key) -> None:
        """Forget a LoadTest that no longer exists."""
        self._interrupted.pop(key, None)
        self._written.pop(key, None)
        self._answers.pop(key, None)

    async def conclude(self, run: Run, _: tuple[Fault, ...]) -> float:
        """Continue a run, or end it."""
        context = self._context
        tended = await context.maps.tend(run.key, run.owner, result_uids(run.owner, run.status))
        view = context.view(run)
        ending = await self._ending.phase(run, tended.bodies, view, is_over=self._is_over(run, view))
        if ending is not None:
            self.forget(run.key)
            return await context.finish(run, ending)
        if context.unwatched(run):
            return await context.report_unwatched(run)
        if not context.is_listed(run):
            return POLL_SECONDS
        if run.spec.suspend and view.job is not None and not view.job.terminating:
            return await self._cancel(run, view.job)
        if view.job is not None and not self._is_released(view.job):
            return await self.release(run, view.job)
        return await self._report(run, view)

    async def release(self, run: Run, job: Child) -> float:
        """Let the Job create its pods. The UID prevents that another Job of this name is released."""
        context, patch = self._context, RELEASE | {"metadata": {"uid": job.uid}}
        try:
            body = await context.cluster.objects.patch("Job", run.key.namespace, job.key.name, patch)
        except API_ERRORS as error:
            if isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND:
                return POLL_SECONDS
            fault = classify(error, job.key)
            return await self._delay(run, fault.reason, fault.message)
        context.released.add(job.uid)
        context.cluster.inventory.wrote_child(run.key, body)
        status = context.status(run)
        message = f"Creating the pods that send requests to {status['model']} at {status['target']}."
        await context.emit(run, "Started", message)
        return POLL_SECONDS

    async def _cancel(self, run: Run, job: Child) -> float:
        await self._context.emit(run, "Canceling", "spec.suspend is true, so the requests of the run are ended.")
        await self._context.stop(run, job)
        return POLL_SECONDS

    async def _delay(self, run: Run, reason: str, message: str) -> float:
        """Say what keeps the pods of a started run from running, or end the run if its deadline has passed."""
        context = self._context
        if phases.is_overdue(context.status(run), context.now()):
            return await context.finish(run, phases.overdue(message, context.now()))
        phase = phases.not_running(reason, message)
        if reason != LoadTestReason.PENDING:
            await context.warn(run, phase)
        await context.write(run, phase)
        return POLL_SECONDS

    async def _report(self, run: Run, view: RunView) -> float:
        """Write what the run does now, and order its pods to start if they wait for each other."""
        context = self._context
        if view.interruption:
            waiting = f"{view.interruption} Waiting for its partial result."
            await context.write(run, phases.running(None, waiting))
            return POLL_SECONDS
        has_begun = phases.has_begun(context.status(run))
        if not has_begun and view.wanted > 1 and view.lost:
            return await context.finish(run, self._lost(view))
        if not has_begun and not view.has_started:
            found = view.trouble(context.cluster.inventory.warnings(run.key), context.now())
            reason, message = (found.reason, found.message) if found else (LoadTestReason.PENDING, _STARTING)
            return await self._delay(run, reason, message)
        progress = await self._progress(run, view)
        # Pods that have begun stop answering at their end, and may be deleted.
        if view.wanted > 1 and not has_begun and not progress.has_begun:
            obstacle = await self._starter.start(run.owner, progress)
            if obstacle:
                return await self._delay(run, LoadTestReason.PENDING, obstacle)
        await self._write_progress(run, progress)
        return POLL_SECONDS

    def _lost(self, view: RunView) -> phases.Phase:
        """Return the last phase of a run with several pods that cannot start, because one of them has been lost."""
        now = self._context.now()
        return phases.failed(view.lost, now) if view.has_failed else phases.canceled(f"{view.lost} {_TOGETHER}", now)

    async def _progress(self, run: Run, view: RunView) -> RunProgress:
        answers = await self._starter.ask(view.pods)
        last = self._answers.setdefault(run.key, {})
        names = [str(pod["metadata"]["name"]) for pod in view.pods]
        now = {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
        last.update(now)
        earlier = [answer for name, answer in last.items() if name not in now]
        return RunProgress(view.pods, answers, view.wanted, earlier)

    async def _write_progress(self, run: Run, progress: RunProgress) -> None:
        """Write the progress of a run, unless the last one is recent and only numbers have changed."""
        context, note, now = self._context, self._lost_endpoint(run), self._context.now()
        written, last_note = self._written.get(run.key, (None, ""))
        is_recent = written is not None and (now - written).total_seconds() < WRITE_SECONDS and note == last_note
        if is_recent and phases.is_running(context.status(run)):
            return
        state = progress.state(run.spec.resolved.objectives)
        await context.write(run, phases.running(progress.percent, progress.message(note), state))
        # A progress in which nothing has begun is followed by the first numbers as soon as there are some.
        if progress.has_begun:
            self._written[run.key] = now, note

    def _is_over(self, run: Run, view: RunView) -> bool:
        """Return whether no load generator will write a result any more."""
        context = self._context
        if not context.is_listed(run):
            return False
        # The Job controller may say that an Indexed Job has ended while a pod still writes its partial result.
        if not view.interruption and (view.wanted == 1 or not view.has_ended):
            self._interrupted.pop(run.key, None)
            return view.has_ended
        since = self._interrupted.setdefault(run.key, context.now())
        return not view.is_at_work or (context.now() - since).total_seconds() >= _PARTIAL_SECONDS

    def _is_released(self, job: Child) -> bool:
        """Return whether a Job may create its pods. The release is the first change of its spec."""
        return job.generation > 1 or job.uid in self._context.released

    def _lost_endpoint(self, run: Run) -> str:
        """Return a sentence if the LLMEndpoint of a run has been deleted, so that its requests fail from now on."""
        reference, inventory = run.spec.endpoint_ref, self._context.cluster.inventory
        if reference is None or not inventory.is_listed(LLMENDPOINT, run.key.namespace):
            return ""
        endpoint = inventory.resource(Key(LLMENDPOINT, run.key.namespace, reference.name))
        return "" if endpoint else f". LLMEndpoint {reference.name} was deleted during the run."
