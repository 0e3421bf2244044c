"""The end of a run: its result is read from the ConfigMaps of its pods, merged if there are several, and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from llmendpoint_common.contracts.loadrun import RUN_KEY, RunDocument, Summary, parse_run_document
from llmendpoint_common.process.errors import LLMEndpointError, RunResultError
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.context import Context, Run
from llmendpoint_operator.loadtest.merging import merged
from llmendpoint_operator.loadtest.observe import RunView
from llmendpoint_operator.loadtest.resources.copies import baseline_name
from llmendpoint_operator.loadtest.resources.merged_result import merged_result, merged_result_name
from llmendpoint_operator.loadtest.resources.run import run_name
from llmendpoint_operator.loadtest.result_map import result_uids
from llmendpoint_operator.loadtest.results import read_result

_LOST_MAP = "ConfigMap {}, which receives the result of this run, was deleted or replaced. Create another LoadTest."


class Ending:
    """Ends runs."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def phase(
        self, run: Run, bodies: Mapping[str, Manifest], view: RunView, *, is_over: bool
    ) -> phases.Phase | None:
        """Return the last phase of a run that has ended, or None if it is still running.

        `bodies` are the result ConfigMaps that exist, by name. `is_over` is whether no result will be written any more.
        """
        context, namespace, now = self._context, run.key.namespace, self._context.now()
        lost = next((name for name in result_uids(run.owner, run.status) if name not in bodies), None)
        if lost is not None and context.cluster.inventory.is_listed("ConfigMap", namespace):
            return phases.failed(_LOST_MAP.format(lost), now)
        if is_over:
            # The watches of different kinds are independent: the end of a pod may arrive before its result.
            bodies = dict(await asyncio.gather(*(self._newest(run, name, body) for name, body in bodies.items())))
        found: dict[str, Summary] = {}
        for name, body in bodies.items():
            try:
                summary = read_result(body)
            except RunResultError as error:
                return phases.failed(f"ConfigMap {name}: {error}. It is not used.", now)
            if summary is not None:
                found[name] = summary
        # A pod writes its result once, before its end.
        if found and (is_over or view.wanted == 1):
            return await self._finished(run, found, view)
        if not is_over or (not bodies and context.unwatched(run)):
            return None
        cause = view.interruption or ("" if view.wanted == 1 or view.has_failed else view.lost)
        return phases.canceled(cause, now) if cause else phases.failed(view.last_words(), now)

    async def _finished(self, run: Run, found: Mapping[str, Summary], view: RunView) -> phases.Phase:
        now = self._context.now()
        if view.wanted == 1:
            (summary,) = found.values()
            return phases.finished(summary, now, view.interruption)
        document = await self._document(run)
        if document is None:
            return phases.failed(f"ConfigMap {run_name(run.owner)}, which describes this run, was deleted.", now)
        try:
            summary = merged([*found.values()], view.wanted, document, await self._baseline(run))
        except LLMEndpointError as error:
            return phases.failed(f"The results of the pods cannot be merged: {error}.", now)
        kept = await self._keep(run, summary)
        return phases.finished(summary, now, view.interruption or view.lost, kept)

    async def _keep(self, run: Run, summary: Summary) -> dict[str, str]:
        """Write the ConfigMap with the merged result, and return its name and UID."""
        manifest = merged_result(run.owner, summary)
        existing = await self._read(run, merged_result_name(run.owner))
        objects = self._context.cluster.objects
        if existing is None:
            written = await objects.create(manifest)
        else:
            written = await objects.apply(manifest, existing["metadata"]["uid"])
        return {"name": written["metadata"]["name"], "uid": written["metadata"]["uid"]}

    async def _document(self, run: Run) -> RunDocument | None:
        name = run_name(run.owner)
        body = await self._read(run, name)
        return parse_run_document(body["data"][RUN_KEY].encode(), name) if body is not None else None

    async def _baseline(self, run: Run) -> Summary | None:
        return read_result(await self._read(run, baseline_name(run.owner))) if run.spec.baseline_ref else None

    async def _newest(self, run: Run, name: str, known: Manifest) -> tuple[str, Manifest]:
        body = await self._read(run, name)
        return name, body if body is not None and body["metadata"]["uid"] == known["metadata"]["uid"] else known

    async def _read(self, run: Run, name: str) -> Manifest | None:
        return await self._context.cluster.objects.get("ConfigMap", run.key.namespace, name)
