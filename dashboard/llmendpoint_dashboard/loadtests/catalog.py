"""Load tests by their keys: runs of this machine, and LoadTests of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from llmendpoint_dashboard.contract import (
    Comparison,
    LoadTestDetail,
    LoadTestRequest,
    LoadTestRow,
    Manifest,
    Origin,
    TableSection,
)
from llmendpoint_dashboard.loadtests.comparison import compare_runs
from llmendpoint_dashboard.loadtests.documents import manifest
from llmendpoint_dashboard.loadtests.problems import RefusedError
from llmendpoint_dashboard.loadtests.starter import Starter
from llmendpoint_dashboard.settings import Settings
from llmendpoint_dashboard.sources.runs import RunsFolder
from llmendpoint_dashboard.state import Hub

_DEFAULT_NAMESPACE = "default"


class Catalog:
    """Details, reports, comparisons, starts and stops of load tests.

    `cluster_summary` returns `status.summary` of a LoadTest by its key.
    """

    def __init__(
        self,
        hub: Hub,
        settings: Settings,
        runs: RunsFolder | None,
        starter: Starter | None,
        cluster_summary: Callable[[str], Any] | None = None,
    ) -> None:
        self._hub = hub
        self._settings = settings
        self._runs = runs
        self._starter = starter
        self._cluster_summary = cluster_summary

    def row(self, key: str) -> LoadTestRow:
        """Return the row of a load test. Raises RefusedError if it does not exist."""
        row = self._hub.row(TableSection.LOADTESTS, key, LoadTestRow)
        if row is None:
            raise RefusedError("There is no such load test.", status=HTTPStatus.NOT_FOUND)
        return row

    async def detail(self, key: str) -> LoadTestDetail:
        """Return a load test with its summary."""
        row = self.row(key)
        if row.origin is Origin.MACHINE and self._runs is not None:
            return LoadTestDetail(row=row, summary=await self._runs.summary(key))
        return LoadTestDetail(row=row, summary=self._cluster_summary(key) if self._cluster_summary else None)

    async def report(self, key: str) -> bytes:
        """Return the report of a run as HTML. Raises RefusedError if it does not exist."""
        row = self.row(key)
        report = None
        if row.origin is Origin.MACHINE and self._runs is not None:
            report = await self._runs.report(key)
        if report is None:
            raise RefusedError("This load test has no report here.", status=HTTPStatus.NOT_FOUND)
        return report

    async def compare(self, first: str, second: str) -> Comparison:
        """Return the comparison of two runs of this machine."""
        rows = self.row(first), self.row(second)
        if self._runs is None or any(row.origin is Origin.CLUSTER for row in rows):
            return Comparison(
                a=rows[0],
                b=rows[1],
                message="Runs of a cluster keep the measurements that a comparison needs outside of their status. "
                f"Compare them with: llmendpoint results compare {first} {second}",
            )
        return compare_runs(rows, (await self._runs.result(first), await self._runs.result(second)))

    async def start(self, request: LoadTestRequest) -> str:
        """Start a run, and return its key. Raises RefusedError."""
        if self._starter is None:
            raise RefusedError(
                "This dashboard does not start load tests. Use the manifest or the command of the form.",
                status=HTTPStatus.FORBIDDEN,
            )
        return await self._starter.start(request)

    async def stop(self, key: str) -> None:
        """Stop a run that this dashboard has started. Raises RefusedError."""
        self.row(key)
        if self._starter is None:
            raise RefusedError("This dashboard does not stop load tests.", status=HTTPStatus.FORBIDDEN)
        await self._starter.stop(key)

    def manifest(self, request: LoadTestRequest) -> Manifest:
        """Return the LoadTest of a form. Raises RefusedError, which names the field."""
        namespace, separator, endpoint = request.source.partition("/")
        if self._settings.cluster is None or not separator:
            namespace, endpoint = _DEFAULT_NAMESPACE, request.source
        return manifest(request, namespace, endpoint, (self._settings.load_urls or {}).get(request.source, ""))
