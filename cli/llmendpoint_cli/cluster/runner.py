"""Runs a load test on a cluster: creates a LoadTest, follows it, and cancels it if the user interrupts."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from contextlib import suppress
from typing import Any

from llmendpoint_cli.cluster.access import Cluster, Manifest, cluster_of
from llmendpoint_cli.cluster.loadtest import load_test
from llmendpoint_cli.cluster.names import ObjectName
from llmendpoint_cli.cluster.results import Outcome, follow, outcome_of
from llmendpoint_common.contracts.loadrun import RunDocument
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import ClusterError, StdoutError
from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_loadjob.report.files import OutputFolder
from llmendpoint_loadjob.report.output import print_summary
from llmendpoint_loadjob.report.progress import Line
from llmendpoint_loadjob.report.streams import progress_console

#: Time for which a canceled LoadTest may need to write its partial result.
_CANCEL_SECONDS = 60.0


class ClusterRun:
    """A load test that runs on a cluster, and whose result is shown here."""

    def __init__(
        self, options: Namespace, document: RunDocument, model: str | None, folder: OutputFolder | None, program: str
    ) -> None:
        self._options = options
        self._document = document
        self._model = model
        self._folder = folder
        self._program = program

    async def serve(self, stopping: asyncio.Event) -> int:
        """Create the LoadTest, follow it until it ends or `stopping` is set, and return the exit code."""
        options = self._options
        try:
            async with cluster_of(options.kubeconfig, options.context) as cluster:
                name = await self._create(cluster)
                resource = await self._follow(cluster, name, stopping)
                outcome = await outcome_of(cluster, name, resource)
        except ClusterError as error:
            print(f"{self._program}: {error}", file=sys.stderr)
            return exit_codes.INTERRUPTED if stopping.is_set() else exit_codes.ERROR
        return await self._show(outcome)

    async def _create(self, cluster: Cluster) -> ObjectName:
        endpoint = cluster.resolve(self._options.endpoint)
        wanted = self._options.name
        manifest: dict[str, Any] = load_test(self._document, endpoint, self._model, wanted and wanted.name)
        created = await cluster.create(manifest)
        name = ObjectName(endpoint.namespace, created["metadata"]["name"])
        print(f"LoadTest {name} was created", file=sys.stderr)
        return name

    async def _follow(self, cluster: Cluster, name: ObjectName, stopping: asyncio.Event) -> Manifest:
        """Return the LoadTest when it has ended. If `stopping` is set, cancel it, so that it ends with what it has."""
        with Line(progress_console()) as show:
            following = asyncio.create_task(follow(cluster, name, show))
            stopped = asyncio.create_task(stopping.wait())
            try:
                await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    await cluster.suspend(name)
                    with suppress(TimeoutError):
                        return await asyncio.wait_for(following, _CANCEL_SECONDS)
                    raise ClusterError(f"LoadTest {name} was canceled, and has not ended in {_CANCEL_SECONDS:g} s")
                return following.result()
            finally:
                following.cancel()
                stopped.cancel()

    async def _show(self, outcome: Outcome) -> int:
        if self._folder is not None and outcome.summary is not None:
            try:
                await asyncio.to_thread(self._folder.write, outcome.summary)
            except OSError as error:
                print(f"{self._program}: {self._folder.path}: {error.strerror}", file=sys.stderr)
                return exit_codes.ERROR
        try:
            if outcome.summary is not None:
                written = None if self._folder is None else self._folder.path
                print_summary(outcome.summary, self._options.format, written=written)
            else:
                with tolerated_output():
                    print(f"{outcome.verdict.value} ({outcome.reason.value}): {outcome.message}")
        except StdoutError as error:
            print(f"{self._program}: {error}", file=sys.stderr)
            return error.exit_code
        return outcome.exit_code
